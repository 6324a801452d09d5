//! Pure logic of ambit.
#![forbid(unsafe_code)]
