//! The `tagway` program.

fn main() {}
