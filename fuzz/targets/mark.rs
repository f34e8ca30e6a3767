//! A mark that decodes is the one spelling of what it decodes to; all else is refused.

use vaultfs::vault::mark::Mark;

/// Decodes the payload of a mark.
pub fn run(data: &[u8]) {
    if let Some(mark) = Mark::decode(data) {
        assert_eq!(mark.encode(), data);
    }
}

/// A mark with something in every list.
pub fn seed() -> Vec<u8> {
    let address = |text: &str| text.parse().expect("an address");
    let mark = Mark {
        at: 1_795_143_600,
        boot: [9; 16],
        uptime: 77,
        packs: vec![[1; 16], [2; 16]],
        meta_packs: vec![[3; 16]],
        purge: vec![address("servers/web-01/2026-11-20T03-00-00Z")],
        backups: vec![
            address("servers/web-01/2026-11-21T03-00-00Z"),
            address("filesystems/home/2026-11-21T03-00-00Z"),
        ],
    };
    mark.encode()
}
