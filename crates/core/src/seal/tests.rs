//! A lost, a wrong and a changed master key, and rotation.

use std::path::Path;

use super::*;
use crate::clock::Time;
use crate::egress::EgressConfig;
use crate::testing::{TestDb, each_database, sqlite};

mod services;

fn sealer(test: &TestDb, config: SealConfig, folder: &Path) -> Sealer {
    let egress = Egress::new(&EgressConfig::default()).unwrap();
    Sealer::new(test.db.clone(), Clock::manual(Time(1)), egress, config, folder)
}

fn sealer_at(test: &TestDb, folder: &Path, clock: &Clock) -> Sealer {
    let egress = Egress::new(&EgressConfig::default()).unwrap();
    Sealer::new(test.db.clone(), clock.clone(), egress, SealConfig::default(), folder)
}

async fn migrated() -> TestDb {
    let test = sqlite().await;
    test.db.migrate(&Clock::manual(Time(1)), &[("seal", &MIGRATIONS)]).await.unwrap();
    test
}

fn folder(test: &TestDb, name: &str) -> PathBuf {
    let path = test.folder.path().join(name);
    DataFolder::make(&path);
    path
}

struct DataFolder;

impl DataFolder {
    fn make(path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[tokio::test]
async fn the_master_key_is_made_once_and_is_its_owners_alone() {
    for test in each_database().await {
        test.db.migrate(&Clock::manual(Time(1)), &[("seal", &MIGRATIONS)]).await.unwrap();
        let folder = folder(&test, "data");
        let sealed = sealer(&test, SealConfig::default(), &folder).seal(&["a"], b"value").await.unwrap();
        let mode =
            std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder.join(MASTER_FILE)).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let again = sealer(&test, SealConfig::default(), &folder);
        assert_eq!(&**again.open(&["a"], &sealed).await.unwrap(), b"value");
        assert!(again.open(&["b"], &sealed).await.is_err());
    }
}

#[tokio::test]
async fn a_lost_master_key_is_not_replaced() {
    let test = migrated().await;
    let folder = folder(&test, "data");
    let sealed = sealer(&test, SealConfig::default(), &folder).seal(&["a"], b"value").await.unwrap();
    std::fs::remove_file(folder.join(MASTER_FILE)).unwrap();
    let later = sealer(&test, SealConfig::default(), &folder);
    let error = later.open(&["a"], &sealed).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("is missing"), "{error}");
    assert!(later.seal(&["a"], b"x").await.is_err());
    assert!(!folder.join(MASTER_FILE).exists());
}

#[tokio::test]
async fn a_wrong_master_key_opens_nothing_and_an_older_one_may_stand_behind_the_new() {
    let test = migrated().await;
    let folder = folder(&test, "data");
    let [old, new] = [Key::random().to_hex(), Key::random().to_hex()];
    let of = |value: &str| SealConfig { value: value.into(), ..SealConfig::default() };
    let sealed = sealer(&test, of(&old), &folder).seal(&["a"], b"value").await.unwrap();
    let error = sealer(&test, of(&new), &folder).open(&["a"], &sealed).await.unwrap_err();
    assert!(error.message.contains("not the one that sealed"), "{error}");
    assert!(!error.message.contains(old.as_str()) && !error.message.contains(new.as_str()));
    let both = format!("{} {}", *new, *old);
    assert!(sealer(&test, of(&both), &folder).open(&["a"], &sealed).await.is_ok());
    // The new one sealed the keys meanwhile, and stands alone from now on.
    assert!(sealer(&test, of(&new), &folder).open(&["a"], &sealed).await.is_ok());
    assert!(sealer(&test, of("not a key"), &folder).check().await.is_err());
}

#[tokio::test]
async fn a_master_key_that_others_can_read_is_refused() {
    let test = migrated().await;
    let folder = folder(&test, "data");
    sealer(&test, SealConfig::default(), &folder).check().await.unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(folder.join(MASTER_FILE), open).unwrap();
    let error = sealer(&test, SealConfig::default(), &folder).check().await.unwrap_err();
    assert!(error.message.contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn rotation_keeps_what_was_sealed_open_on_every_server() {
    for test in each_database().await {
        test.db.migrate(&Clock::manual(Time(1)), &[("seal", &MIGRATIONS)]).await.unwrap();
        let folder = folder(&test, "data");
        let clock = Clock::manual(Time(1));
        let (one, other) = (sealer_at(&test, &folder, &clock), sealer_at(&test, &folder, &clock));
        let unheard = sealer_at(&test, &folder, &clock);
        unheard.check().await.unwrap();
        let sealed = one.seal(&["a"], b"value").await.unwrap();
        other.open(&["a"], &sealed).await.unwrap();
        let before = std::fs::read(folder.join(MASTER_FILE)).unwrap();
        one.rotate().await.unwrap();
        assert_ne!(std::fs::read(folder.join(MASTER_FILE)).unwrap(), before);
        assert!(one.open(&["a"], &sealed).await.is_ok());
        let newer = one.seal(&["a"], b"newer").await.unwrap();
        // The other server has not heard of the new key, and finds it.
        assert_eq!(&**other.open(&["a"], &newer).await.unwrap(), b"newer");
        let rewrapped = other.rewrap(&["a"], &sealed).await.unwrap().unwrap();
        assert_eq!(other.rewrap(&["a"], &rewrapped).await.unwrap(), None);
        // The other server may still seal by the older key, so it is kept for a while.
        let late = unheard.seal(&["a"], b"late").await.unwrap();
        one.retire().await.unwrap();
        let fresh = sealer_at(&test, &folder, &clock);
        let late = fresh.rewrap(&["a"], &late).await.unwrap().expect("sealed by the older key");
        clock.advance_seconds(KEPT_FOR + 1);
        let heard = unheard.seal(&["a"], b"heard").await.unwrap();
        assert_eq!(one.rewrap(&["a"], &heard).await.unwrap(), None, "it has looked for a newer key");
        one.retire().await.unwrap();
        let fresh = sealer_at(&test, &folder, &clock);
        assert_eq!(&**fresh.open(&["a"], &late).await.unwrap(), b"late");
        assert_eq!(&**fresh.open(&["a"], &rewrapped).await.unwrap(), b"value");
        assert!(fresh.open(&["a"], &sealed).await.is_err());
    }
}
