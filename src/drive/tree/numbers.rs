//! Inode numbers: the same in every mount and with every build, so that programs that remember them find the same ones
//! again (otherwise git would read all files of a work tree again).

use std::ffi::OsStr;
use std::hash::Hasher as _;
use std::os::unix::ffi::OsStrExt as _;

use scaup_fuse::filesystem::Inode;
use siphasher::sip::SipHasher13;

/// Returns the number that a name in a directory gets if it is free: SipHash-1-3 with keys of zeros, of the directory's
/// number in eight bytes, the lowest first, and the name's bytes.
pub(in crate::drive) fn first(parent: Inode, name: &OsStr) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&parent.0.to_le_bytes());
    hasher.write(name.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_same_number_in_every_build() {
        // Computed by another implementation of the algorithm.
        assert_eq!(first(Inode::ROOT, OsStr::new("a")), 0xbeb9_a6bb_f61b_58b4);
        assert_eq!(first(Inode(0x0123_4567_89ab_cdef), OsStr::new("Maß")), 0x2bef_394a_d732_0991);
    }
}
