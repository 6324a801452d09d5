//! The subcommands of `ambit`.

pub mod check;
