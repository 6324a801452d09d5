//! BPF.
