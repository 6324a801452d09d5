//! Nodes and pods as network namespaces and cgroups.
