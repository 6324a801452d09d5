//! Writes a folder as the archive that a kernel boots from: cpio in its `newc` form (the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`). Files, folders and links, owned by root.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// Writes what is in the folder `from` as the archive `to`.
///
/// # Errors
/// What reading and writing say.
pub(super) fn write(from: &Path, to: &Path) -> io::Result<()> {
    let mut archive = Archive { out: BufWriter::new(File::create(to)?), written: 0, inode: 0 };
    archive.add_below(from, from)?;
    archive.entry(TRAILER.as_bytes(), 0, &[])?;
    archive.out.flush()
}

struct Archive<W> {
    out: W,
    written: usize,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn add_below(&mut self, root: &Path, folder: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path)?;
            let name = path.strip_prefix(root).map_err(io::Error::other)?.as_os_str().as_bytes();
            if metadata.is_symlink() {
                self.entry(name, metadata.mode(), fs::read_link(&path)?.as_os_str().as_bytes())?;
            } else if metadata.is_dir() {
                self.entry(name, metadata.mode(), &[])?;
                self.add_below(root, &path)?;
            } else {
                self.entry(name, metadata.mode(), &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], mode: u32, data: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(data.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // Inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = String::from("070701");
        fields.iter().for_each(|field| header.push_str(&format!("{field:08X}")));
        self.put(header.as_bytes())?;
        self.put(name)?;
        self.put(&[0])?;
        self.pad()?;
        self.put(data)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.put(&[0; 3][..missing])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_say_their_size() {
        let mut archive = Archive { out: Vec::new(), written: 0, inode: 0 };
        archive.entry(b"init", 0o100_755, b"hello").unwrap();
        archive.entry(TRAILER.as_bytes(), 0, &[]).unwrap();
        let text = String::from_utf8_lossy(&archive.out).into_owned();
        assert!(text.starts_with("07070100000001000081ED"), "{text}");
        // Header of 110 and name of 5 bytes, padded to 116; data of 5, padded to 8.
        assert_eq!(&archive.out[110..115], b"init\0");
        assert_eq!(&archive.out[116..121], b"hello");
        assert_eq!(&archive.out[124..130], b"070701");
        assert_eq!(archive.out.len() % 4, 0);
    }

    #[test]
    fn folders_files_and_links_are_archived() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/tool"), b"x").unwrap();
        std::os::unix::fs::symlink("tool", root.join("bin/link")).unwrap();
        let to = dir.path().join("initrd");
        write(&root, &to).unwrap();
        let bytes = fs::read(&to).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for name in ["bin\0", "bin/tool\0", "bin/link\0", TRAILER] {
            assert!(text.contains(name), "{name}");
        }
        assert!(text.find("bin\0") < text.find("bin/link\0"));
    }
}
