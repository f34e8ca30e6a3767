//! Images of many feature sets, filled by the kernel: the reader shows what the kernel shows.

use std::path::Path;

use crate::files::{assert_same, can_loop_mount};
use crate::fill;
use crate::images::{Image, kernels, ours};

/// Makes an image, fills it, compares.
fn compare(options: &str, block: u64, reflink: bool) {
    compare_with(options, &[], |root| {
        fill::everything(root, block);
        if reflink {
            fill::reflinks(root);
        }
    });
}

fn compare_with(options: &str, db: &[&str], fill: impl FnOnce(&Path)) {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, options);
    if !db.is_empty() {
        image.db(db);
    }
    image.fill(fill);
    let (ours, kernels) = (ours(&image.path()), kernels(&image.path()));
    assert_same(&ours, &kernels, options);
}

/// A test for each set of options: name, options of mkfs.xfs, block size, whether files can share blocks.
macro_rules! images {
    ($($name:ident: $options:expr, $block:expr, $reflink:expr;)*) => {$(
        #[test]
        fn $name() {
            compare($options, $block, $reflink);
        }
    )*};
}

images! {
    defaults_read_as_the_kernel_reads_them: "", 4096, true;
    blocks_of_1024_read_as_the_kernel_reads_them: "-b size=1024", 1024, true;
    blocks_of_2048_read_as_the_kernel_reads_them: "-b size=2048", 2048, true;
    blocks_of_8192_read_as_the_kernel_reads_them: "-b size=8192", 8192, true;
    blocks_of_65536_read_as_the_kernel_reads_them: "-b size=65536", 65536, true;
    directories_of_8192_read_as_the_kernel_reads_them: "-n size=8192", 4096, true;
    directories_of_65536_read_as_the_kernel_reads_them: "-n size=65536", 4096, true;
    small_blocks_in_large_directories_read_as_the_kernel_reads_them: "-b size=1024 -n size=4096", 1024, true;
    inodes_of_2048_read_as_the_kernel_reads_them: "-i size=2048", 4096, true;
    inodes_of_1024_read_as_the_kernel_reads_them: "-i size=1024", 4096, true;
    wide_counts_read_as_the_kernel_reads_them: "-i nrext64=1", 4096, true;
    narrow_counts_read_as_the_kernel_reads_them: "-i nrext64=0,sparse=0", 4096, true;
    times_of_32_bits_read_as_the_kernel_reads_them: "-m bigtime=0", 4096, true;
    no_reflinks_read_as_the_kernel_reads_them: "-m reflink=0", 4096, false;
    reverse_maps_read_as_the_kernel_reads_them: "-m rmapbt=1", 4096, true;
    no_free_inode_tree_reads_as_the_kernel_reads_it: "-m finobt=0,inobtcount=0,reflink=0", 4096, false;
    sectors_of_4096_read_as_the_kernel_reads_them: "-s size=4096", 4096, true;
    many_groups_read_as_the_kernel_reads_them: "-d agcount=19", 4096, true;
    stripes_read_as_the_kernel_reads_them: "-d su=64k,sw=4 -l su=256k", 4096, true;
}
