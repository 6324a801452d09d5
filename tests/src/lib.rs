//! The tests of ambit live in `tests/`; this library is empty.
