//! A vault object decodes to values that encode and decode to themselves, or is refused.

use vaultfs::vault::config::Config;

/// Decodes a vault object.
pub fn run(data: &[u8]) {
    if let Ok(config) = Config::decode(data) {
        let again = Config::encode(&config).expect("checked values encode");
        assert_eq!(Config::decode(&again).expect("what was encoded decodes").id, config.id);
    }
}

/// The object of a vault.
pub fn seed() -> Vec<u8> {
    let config = Config {
        id: [7; 16],
        name: "vault".to_owned(),
        created: 1_795_143_600,
        chunk_size: 65_536,
        tags: Default::default(),
        features: Default::default(),
    };
    config.encode().expect("values within the limits")
}
