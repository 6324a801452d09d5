//! ABI
#![no_std]
