//! Records to tables: mean, standard deviation, n over seeds. Pure.
