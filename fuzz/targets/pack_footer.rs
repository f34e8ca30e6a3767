//! A pack's footer that decodes describes chunks within the object and the limits of the format; all else is refused.

use vaultfs::checksum::Digest;
use vaultfs::vault::object::{FRAME_LEN, Frame, HEADER_LEN, ObjectType};
use vaultfs::vault::pack::Footer;

/// Decodes bytes as the records of a footer of an object whose length the first four bytes say: as they are, and under a trailer with
/// the right hash, without which nothing would come far.
pub fn run(data: &[u8]) {
    let Some((len, records)) = data.split_first_chunk::<4>() else {
        return;
    };
    let object_len = u64::from(u32::from_le_bytes(*len));
    let frame = Frame {
        object_type: ObjectType::Pack,
        vault_id: [1; 16],
        object_id: [2; 16],
    };
    let _ = Footer::decode(&frame, object_len, records, "packs/fuzz");
    let mut tail = records[..records.len() / 48 * 48].to_vec();
    let count = (tail.len() / 48) as u32;
    // docs/format.md, section "Pack": count, four reserved bytes, magic.
    let fixed = [&count.to_le_bytes()[..], &[0; 4], b"VFSFOOT\x01"].concat();
    let header = frame.header((object_len as usize).saturating_sub(FRAME_LEN));
    let digest = Digest::of_pieces(&[&header, &tail, &fixed]);
    tail.extend(fixed);
    tail.extend(digest.0);
    tail.extend([0; Digest::LEN]);
    if let Ok(footer) = Footer::decode(&frame, object_len, &tail, "packs/fuzz") {
        assert_eq!(footer.records().len(), count as usize);
        for record in footer.records() {
            let end = u64::from(record.offset) + u64::from(record.stored_len);
            assert!(record.offset as usize >= HEADER_LEN && end <= object_len);
            assert!(footer.find(&record.id).is_some());
        }
    }
}

/// The records of two chunks of 1000 and 96 stored bytes, and the length of their object.
pub fn seed() -> Vec<u8> {
    let record = |id: u8, stored: u32, plain: u32, codec: u8| {
        let lens = [stored.to_le_bytes(), plain.to_le_bytes()].concat();
        [&[id; 32][..], &lens, &[codec], &[0; 7]].concat()
    };
    let records = [record(2, 1000, 65_536, 1), record(1, 96, 96, 0)].concat();
    let len = HEADER_LEN + 1096 + records.len() + 48 + Digest::LEN;
    [&(len as u32).to_le_bytes()[..], &records].concat()
}
