//! What the user wrote; the only room that knows YAML.
