//! The root filesystem of the virtual machine: the programs that the tests call with their libraries, the kernel's
//! network modules, the tests, and an init that runs them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{
    console::{END, MARK},
    kernel::Kernel,
};
use crate::{
    setup::find_program,
    workspace::{self, Profile, Workspace},
};

/// Programs that the harness calls.
const PROGRAMS: [&str; 5] = ["ip", "nft", "nsenter", "sh", "cat"];
/// What busybox stands in for: what only the init calls.
const APPLETS: [&str; 6] = ["mount", "mkdir", "echo", "poweroff", "uname", "sysctl"];
/// Programs of this project that tests start; those that are not built are left out.
const BINARIES: [&str; 4] = ["ambit", "traffic", "hbone-peer", "attack"];
/// Parts of the kernel that the tests may want, below its modules' `kernel` folder.
const MODULES: [&str; 7] =
    ["net", "lib", "crypto", "arch", "drivers/net/veth.ko", "drivers/net/dummy.ko", "drivers/net/vxlan"];
/// Where the tests lie in the machine: laid out like a target directory, so that they find their programs.
const TESTS: &str = "/target/debug/deps";

/// Makes the folder `root` anew.
///
/// # Errors
/// When a program is missing or a file cannot be copied.
pub(super) fn assemble(
    root: &Path,
    workspace: &Workspace,
    kernel: &Kernel,
    tests: &BTreeMap<String, PathBuf>,
    suite: &[(String, Vec<String>)],
) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))?;
    }
    for folder in ["bin", "sbin", "proc", "sys", "dev", "tmp", "run", "etc", "root", "var/lib"] {
        fs::create_dir_all(root.join(folder))
            .with_context(|| format!("make {folder} in {}", root.display()))?;
    }
    let busybox = find_program("busybox").context("busybox is missing: apt-get install busybox-static")?;
    copy(&busybox, &root.join("bin/busybox"))?;
    for applet in APPLETS {
        link("busybox", &root.join("bin").join(applet))?;
    }
    // The kernel itself calls this to load what is asked for.
    link("/bin/busybox", &root.join("sbin/modprobe"))?;
    for name in PROGRAMS {
        let program = find_program(name).with_context(|| format!("{name} is missing"))?;
        copy_with_libraries(&program, root, &format!("/bin/{name}"))?;
    }
    let built = BINARIES.map(|name| (name, workspace.binary(Profile::Dev, name)));
    for (name, binary) in built.iter().filter(|(_, binary)| binary.is_file()) {
        copy_with_libraries(binary, root, &format!("/target/debug/{name}"))?;
    }
    for (theme, executable) in tests {
        copy_with_libraries(executable, root, &format!("{TESTS}/{theme}"))?;
    }
    modules(root, kernel)?;
    let init = root.join("init");
    fs::write(&init, script(suite)).context("write the init")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("make the init executable")
}

/// Returns the init's script.
fn script(suite: &[(String, Vec<String>)]) -> String {
    let mut script = format!(
        "#!/bin/sh
export PATH=/bin:/sbin HOME=/root RUST_BACKTRACE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
echo \"{MARK}Linux $(uname -r)\"
"
    );
    for (theme, names) in suite {
        // One run for each name: a name that no test has is told by its own result.
        let runs = if names.is_empty() { vec![""] } else { names.iter().map(String::as_str).collect() };
        for name in runs {
            script.push_str(&format!(
                "echo '{MARK}running {theme} {name}'\n{TESTS}/{theme} --test-threads=1 {name}\necho \"{MARK}status $?\"\n"
            ));
        }
    }
    script.push_str(&format!("echo '{MARK}{END}'\npoweroff -f\n"));
    script
}

fn modules(root: &Path, kernel: &Kernel) -> Result<()> {
    let to = root.join("lib/modules").join(&kernel.release);
    for part in MODULES {
        let from = kernel.modules.join("kernel").join(part);
        if from.exists() {
            copy_all(&from, &to.join("kernel").join(part))?;
        }
    }
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        copy(&kernel.modules.join(list), &to.join(list))?;
    }
    let depmod = find_program("depmod").context("depmod is missing: apt-get install kmod")?;
    workspace::run(Command::new(depmod).arg("-b").arg(root).arg(&kernel.release), "list the kernel's modules")
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return copy(from, to);
    }
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))?.flatten() {
        copy_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Copies a program to `path` below `root`, and its libraries to where they stand here.
fn copy_with_libraries(program: &Path, root: &Path, path: &str) -> Result<()> {
    copy(program, &root.join(path.trim_start_matches('/')))?;
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    for library in libraries_in(&String::from_utf8_lossy(&output.stdout)) {
        let to = root.join(library.trim_start_matches('/'));
        if !to.exists() {
            copy(Path::new(library), &to)?;
        }
    }
    Ok(())
}

/// Returns the files that `ldd` names: the first absolute path of a line.
fn libraries_in(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/'))).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    match fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(error) => bail!("copy {} to {}: {error}", from.display(), to.display()),
    }
}

fn link(target: &str, path: &Path) -> Result<()> {
    symlink(target, path).with_context(|| format!("link {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let said =
            "\tlinux-vdso.so.1 (0x0)\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n\t/lib64/ld-linux.so.2 (0x2)\n";
        assert_eq!(libraries_in(said), ["/lib/libc.so.6", "/lib64/ld-linux.so.2"]);
        assert!(libraries_in("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn the_init_runs_each_theme_and_marks_its_end() {
        let script = script(&[
            ("lane".to_owned(), Vec::new()),
            ("policy".to_owned(), vec!["modes::".to_owned(), "host::".to_owned()]),
        ]);
        assert!(script.contains("/target/debug/deps/lane --test-threads=1 \n"), "{script}");
        for name in ["modes::", "host::"] {
            assert!(
                script.contains(&format!("/target/debug/deps/policy --test-threads=1 {name}\n")),
                "{script}"
            );
        }
        assert!(script.ends_with("echo 'VM: end'\npoweroff -f\n"), "{script}");
    }
}
