//! Archives that somebody made to do harm, and such as a broken disk gives back.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::*;

/// An entry as its maker wanted it.
#[derive(Clone)]
struct Made {
    name: String,
    kind: EntryType,
    bytes: Vec<u8>,
}

impl Made {
    fn file(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), kind: EntryType::Regular, bytes: bytes.to_owned() }
    }
}

fn unpack(file: &Path) -> Vec<Made> {
    let mut tar = tar::Archive::new(GzDecoder::new(std::fs::File::open(file).unwrap()));
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        Made::file(entry.path().unwrap().to_str().unwrap(), &bytes)
    });
    entries.collect()
}

/// Writes names as they are, which no writer of archives would.
fn pack(file: &Path, entries: &[Made]) {
    let mut tar =
        tar::Builder::new(GzEncoder::new(std::fs::File::create(file).unwrap(), Compression::fast()));
    for made in entries {
        let mut header = Header::new_gnu();
        header.set_size(made.bytes.len() as u64);
        header.set_mode(0o777);
        header.set_entry_type(made.kind);
        let name = made.name.as_bytes();
        if name.len() > 100 {
            let mut long = Header::new_gnu();
            long.set_size(name.len() as u64);
            long.set_entry_type(EntryType::GNULongName);
            long.set_cksum();
            tar.append(&long, name).unwrap();
        }
        let short = &name[..name.len().min(100)];
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        if matches!(made.kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.append(&header, made.bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap().flush().unwrap();
}

/// With sums that are right for what is there.
fn with_sums(mut entries: Vec<Made>) -> Vec<Made> {
    entries.retain(|made| made.name != "sums.json");
    let sum = |made: &Made| {
        let rows = made
            .name
            .starts_with("tables/")
            .then(|| made.bytes.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1));
        let text = json!({ "sha256": digest(&made.bytes), "bytes": made.bytes.len() });
        let mut sum = text.as_object().unwrap().clone();
        if let Some(rows) = rows {
            sum.insert("rows".to_owned(), rows.into());
        }
        (made.name.clone(), Value::Object(sum))
    };
    let sums: serde_json::Map<String, Value> = entries.iter().map(sum).collect();
    entries.push(Made::file("sums.json", Value::Object(sums).to_string().as_bytes()));
    entries
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes))
}

/// A room's archive, and a place to restore it to.
struct Place {
    file: PathBuf,
    entries: Vec<Made>,
    config: RoomConfig,
    target: TestDb,
    _archives: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        let test = sqlite().await;
        let house = House::furnished(&test).await;
        let archives = tempfile::tempdir().unwrap();
        let file = archive(&archives, "a.tar.gz");
        house.save(&file).await.unwrap();
        house.close().await;
        let target = sqlite().await;
        let config = config_of(&target);
        give_key(&config_of(&test), &config);
        Self { entries: unpack(&file), file, config, target, _archives: archives }
    }

    /// Restores these entries, which must fail and leave nothing; answers what was said.
    async fn refused(&self, what: &str, entries: &[Made]) -> String {
        pack(&self.file, entries);
        self.refused_as_it_is(what).await
    }

    async fn refused_as_it_is(&self, what: &str) -> String {
        let error = back(&self.config, &self.file).await.expect_err(what);
        assert_eq!(error.kind, Kind::Invalid, "{what}: {error}");
        let left = left_in(&self.config);
        assert!(left.is_empty(), "{what} left {left:?}");
        assert!(self.target.db.tables().await.unwrap().is_empty(), "{what} left tables");
        error.message
    }

    fn and(&self, more: Made) -> Vec<Made> {
        let mut entries = self.entries.clone();
        let last = entries.len() - 1;
        entries.insert(last, more);
        with_sums(entries)
    }
}

#[tokio::test]
async fn a_hostile_archive_writes_nothing_outside_of_the_data_folder_and_nothing_in_it() {
    let place = Place::new().await;
    let outside = place.config.data_dir.parent().unwrap().join("opsroom-hostile-archive-was-here");
    for name in [
        "../opsroom-hostile-archive-was-here",
        "files/../opsroom-hostile-archive-was-here",
        "files/files/../../../opsroom-hostile-archive-was-here",
        outside.to_str().unwrap(),
        "files//etc/passwd",
        "files/files/./a",
        "files/files/",
        "files/files/a\\..\\b",
        "files/master.key",
        "files/operator.key",
        "files/opsroom.yaml",
        "files/secrets.d/token",
        "files/.restore/files/a",
        "files/files",
        "evil",
        "tables/../files.jsonl",
        "tables/sqlite_schema.jsonl",
        "tables/schema_migrations.jsonl",
        "",
        &format!("files/files/{}/{}", "../".repeat(60), "x"),
        &format!("files/files/{}", "x".repeat(300)),
    ] {
        place.refused(name, &place.and(Made::file(name, b"evil"))).await;
        assert!(!outside.exists());
    }
}

#[tokio::test]
async fn a_hostile_archive_with_links_and_devices_is_refused() {
    let place = Place::new().await;
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::Continuous,
        EntryType::GNUSparse,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ] {
        let made = Made { name: "files/files/link".to_owned(), kind, bytes: Vec::new() };
        let said = place.refused(&format!("{kind:?}"), &place.and(made)).await;
        assert!(said.contains("no regular file"), "{said}");
    }
    // A name that takes more memory than any path.
    let long = Made { name: "x".to_owned(), kind: EntryType::GNULongName, bytes: vec![b'a'; 1 << 20] };
    place.refused("a long name", &place.and(long)).await;
}

#[tokio::test]
async fn a_file_in_the_place_of_a_folder_leaves_nothing() {
    let place = Place::new().await;
    let mut entries = place.and(Made::file("files/files/a", b"a file"));
    entries.insert(entries.len() - 1, Made::file("files/files/a/b", b"below it"));
    pack(&place.file, &with_sums(entries));
    back(&place.config, &place.file).await.unwrap_err();
    assert!(left_in(&place.config).is_empty());
    assert!(place.target.db.tables().await.unwrap().is_empty());
}

/// What is done to an archive.
type Change<'a> = dyn Fn(&mut Vec<Made>) + 'a;

#[tokio::test]
async fn a_damaged_archive_is_refused_wherever_it_is_damaged() {
    let place = Place::new().await;
    let at = |name: &str| place.entries.iter().position(|made| made.name.ends_with(name)).unwrap();
    let change = |change: &Change<'_>| {
        let mut entries = place.entries.clone();
        change(&mut entries);
        entries
    };
    let said = place.refused("a byte", &change(&|all| all[at("a.log")].bytes[0] ^= 1)).await;
    assert!(said.contains("damaged"), "{said}");
    let cases: [(&str, &Change<'_>); 8] = [
        ("a longer file", &|all| all[at("a.log")].bytes.push(b'x')),
        ("a missing file", &|all| drop(all.remove(at("a.log")))),
        ("a missing table", &|all| drop(all.remove(at("api_keys.jsonl")))),
        ("no sums", &|all| drop(all.pop())),
        ("no manifest", &|all| drop(all.remove(0))),
        ("a file twice", &|all| all.insert(at("a.log"), all[at("a.log")].clone())),
        ("something after the sums", &|all| all.push(Made::file("files/files/late", b"x"))),
        ("something before the manifest", &|all| all.swap(0, 1)),
    ];
    for (what, how) in cases {
        place.refused(what, &change(how)).await;
    }
    let missing = change(&|all| drop(all.remove(at("api_keys.jsonl"))));
    place.refused("a missing table with right sums", &with_sums(missing)).await;
    pack(&place.file, &place.entries);
    let whole = std::fs::read(&place.file).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 20] {
        std::fs::write(&place.file, &whole[..length]).unwrap();
        place.refused_as_it_is(&format!("its first {length} bytes")).await;
    }
}

#[tokio::test]
async fn rows_that_are_none_of_their_table_are_refused_although_their_sums_are_right() {
    let place = Place::new().await;
    let jobs = place.entries.iter().position(|made| made.name == "tables/schedules.jsonl").unwrap();
    let head = |entry: usize| {
        let text = String::from_utf8(place.entries[entry].bytes.clone()).unwrap();
        text.lines().next().unwrap().to_owned()
    };
    for (entry, lines) in [
        (jobs, "not json\n".to_owned()),
        (jobs, "{}\n".to_owned()),
        (jobs, "[1]\n".to_owned()),
        (jobs, "[\"unended\"".to_owned()),
        (jobs, format!("[{}]\n", vec!["{}"; head(jobs).matches(',').count() + 1].join(","))),
    ] {
        let mut entries = place.entries.clone();
        entries[entry].bytes = format!("{}\n{lines}", head(entry)).into_bytes();
        place.refused(&lines, &with_sums(entries)).await;
    }
    let mut entries = place.entries.clone();
    entries[jobs].bytes = b"[\"other\",\"columns\"]\n".to_vec();
    place.refused("other columns", &with_sums(entries)).await;
}

#[tokio::test]
async fn the_archive_of_another_version_says_which_made_it() {
    let place = Place::new().await;
    for change in [json!({ "format": 2 }), json!({ "migrations": { "identity": 1 } })] {
        let mut entries = place.entries.clone();
        let mut manifest: Value = serde_json::from_slice(&entries[0].bytes).unwrap();
        manifest["opsroom"] = "9.8.7".into();
        manifest.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        entries[0].bytes = manifest.to_string().into_bytes();
        let said = place.refused("another version", &with_sums(entries)).await;
        assert!(said.contains("9.8.7"), "{said}");
    }
}
