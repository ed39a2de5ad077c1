//! Checks that a device computes what the CPU does: every kernel against the CPU's rows, whole steps against the CPU backend.
//!
//! Input: a way to open devices. Output: nothing, or a panic that says which element of what is off.
//! The same checks run in tests on the emulator and by `gpu-check` on a GPU, from the binary alone. Invariant: shapes are tiny
//! and awkward (1, primes, no multiples of a tile). Must not know which device it is.

mod activation;
mod adafactor;
mod adamw;
mod attention;
mod contrastive;
pub mod curves;
mod elementwise;
mod embedding;
mod flat;
pub mod gradients;
pub(in crate::trainer) mod lab;
mod layer_norm;
mod normalize;
mod patchify;
mod product;
pub mod speed;
pub mod steps;

pub use lab::{Runner, on_device};

use super::backend::cuda::device::Device;

/// A check of kernels, made on the device of [`on_device`].
pub type KernelCheck = fn();

macro_rules! checks {
    ($($op:ident: $($check:ident),+;)+) => {
        /// All checks of kernels, named `<kernel file>::<what holds>`.
        pub const KERNELS: &[(&str, KernelCheck)] =
            &[$($((concat!(stringify!($op), "::", stringify!($check)), $op::$check)),+),+];
    };
}

checks! {
    activation: values_and_slopes_agree_with_the_cpu_for_every_kind_and_length;
    adafactor: several_steps_of_adafactor_agree_with_the_cpu_for_every_view,
        large_matrices_spread_over_many_blocks_give_the_same_bytes_in_every_order,
        adafactor_stops_at_the_first_step_that_is_not_finite;
    adamw: several_steps_of_adamw_agree_with_the_cpu_for_every_view,
        adamw_stops_at_the_first_step_that_is_not_finite;
    attention: output_and_gradient_agree_with_the_cpu_in_any_shape_full_and_causal,
        large_scores_neither_overflow_nor_lose_the_winner,
        arrays_may_start_at_any_element,
        every_order_of_threads_gives_the_same_bytes;
    contrastive: both_losses_agree_with_the_cpu_in_both_schedules_on_every_shape,
        wide_features_long_batches_and_views_at_odd_places_agree_with_the_cpu;
    elementwise: casts_round_to_the_nearest_wherever_they_start,
        sums_take_and_give_both_types_also_in_place,
        column_sums_agree_with_the_cpu_for_both_inputs_and_any_shape,
        the_norm_is_that_of_the_cpu_with_and_without_a_limit,
        the_logit_scale_is_clamped_unless_a_step_was_unfit;
    embedding: rows_are_table_rows_plus_positions,
        an_id_beyond_the_table_is_not_a_number,
        gradients_of_table_and_positions_are_those_of_the_cpu;
    layer_norm: rows_and_statistics_agree_with_the_cpu,
        gradients_agree_with_the_cpu,
        the_repeated_output_has_the_bits_of_forward_and_the_gradient_may_replace_its_source;
    normalize: normalised_rows_and_their_gradients_agree_with_the_cpu,
        the_mean_over_tokens_is_that_of_a_plain_sum;
    patchify: keep_sets_are_those_of_the_patch_mask_bit_for_bit,
        all_patches_are_kept_in_order,
        patch_rows_have_the_bits_of_the_cpu,
        every_byte_has_its_value_whatever_the_channel,
        crops_have_the_bytes_of_the_augmenter,
        patch_rows_become_tokens_with_their_positions,
        token_gradients_go_to_rows_class_and_positions;
    product: products_of_every_layout_agree_with_a_plain_loop;
}

/// All checks of whole steps, by name.
#[must_use]
pub fn whole_steps<D: Device>() -> Vec<(&'static str, steps::StepCheck<D>)> {
    let mut checks = steps::checks();
    checks.push(("known losses", curves::one_batch_has_the_known_losses));
    checks
}
