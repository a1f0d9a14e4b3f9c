//! Attacks on the files that callers name, each named after what it tries.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::*;

fn roots() -> (Roots, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("logs/old")).unwrap();
    std::fs::write(root.join("logs/app.log"), "hello\n").unwrap();
    std::fs::write(folder.path().join("outside.txt"), "secret").unwrap();
    (Roots::new(&[root]).unwrap(), folder)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn refused(roots: &Roots, path: &str) -> Error {
    roots.read(path, 100).expect_err(path)
}

#[test]
fn a_file_is_read_by_its_relative_and_by_its_absolute_path() {
    let (roots, folder) = roots();
    assert_eq!(roots.read("logs/app.log", 100).unwrap(), b"hello\n");
    assert_eq!(roots.read("./logs//app.log", 100).unwrap(), b"hello\n");
    let absolute = folder.path().join("root/logs/app.log");
    assert_eq!(roots.read(absolute.to_str().unwrap(), 100).unwrap(), b"hello\n");
    assert_eq!(roots.open_read("logs/app.log").unwrap().bytes, 6);
    assert_eq!(refused(&roots, "logs/none.log").kind, Kind::NotFound);
    assert_eq!(refused(&roots, "logs/app.log/x").kind, Kind::NotFound);
    assert_eq!(roots.read("logs/app.log", 5).unwrap_err().kind, Kind::Invalid);
}

#[test]
fn an_absolute_path_outside_the_roots_is_refused_and_the_roots_are_named() {
    let (roots, folder) = roots();
    let error = refused(&roots, "/etc/passwd");
    assert_eq!(error.kind, Kind::Forbidden);
    assert!(error.message.contains("root"), "{error}");
    // A sibling whose name begins alike is not below it.
    let sibling = folder.path().join("root2");
    std::fs::create_dir(&sibling).unwrap();
    std::fs::write(sibling.join("x"), "x").unwrap();
    assert_eq!(refused(&roots, sibling.join("x").to_str().unwrap()).kind, Kind::Forbidden);
}

#[test]
fn dot_dot_is_refused_wherever_it_stands() {
    let (roots, folder) = roots();
    let absolute = format!("{}/root/../outside.txt", folder.path().display());
    for path in
        ["..", "../outside.txt", "logs/../../outside.txt", "logs/../logs/app.log", "logs/..", &absolute]
    {
        let error = refused(&roots, path);
        assert!(error.message.contains(".."), "{error}");
        assert_eq!(roots.create_new(path, b"x").unwrap_err().kind, error.kind);
        assert_eq!(roots.list(path, 9).unwrap_err().kind, error.kind);
    }
}

#[test]
fn a_link_to_etc_is_refused_as_the_file_and_as_a_folder_on_the_way() {
    let (roots, folder) = roots();
    let root = folder.path().join("root");
    symlink("/etc/passwd", root.join("passwd")).unwrap();
    symlink("/etc", root.join("etc")).unwrap();
    symlink("logs/app.log", root.join("alias.log")).unwrap();
    symlink("/proc/self/fd/0", root.join("magic")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    for path in ["passwd", "etc/passwd", "alias.log", "magic", "loop", "loop/x"] {
        let error = refused(&roots, path);
        assert_eq!(error.kind, Kind::Forbidden, "{path}: {error}");
        assert!(error.message.contains("link"), "{path}: {error}");
    }
    assert_eq!(roots.create_new("etc/opsroom", b"x").unwrap_err().kind, Kind::Forbidden);
    assert_eq!(roots.list("etc", 9).unwrap_err().kind, Kind::Forbidden);
    let error = roots.replace("passwd", b"x").unwrap_err();
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    let listed: Vec<String> =
        roots.list("", 9).unwrap().entries.into_iter().map(|entry| entry.name).collect();
    assert_eq!(listed, ["logs"], "links are not listed");
}

#[test]
fn resolving_name_by_name_refuses_the_same_links_and_pipes() {
    let (_, folder) = roots();
    let root = folder.path().join("root");
    symlink("/etc", root.join("etc")).unwrap();
    symlink("/etc/passwd", root.join("logs/passwd")).unwrap();
    let dir = beneath::open_root(&root).unwrap();
    let parts = |path: &str| path.split('/').map(OsString::from).collect::<Vec<_>>();
    let open = |path: &str| beneath::name_by_name(&dir, &parts(path), OFlags::RDONLY | OFlags::NONBLOCK);
    assert!(open("logs/app.log").is_ok());
    for path in ["etc/passwd", "logs/passwd", "etc"] {
        assert_eq!(open(path).unwrap_err(), rustix::io::Errno::LOOP, "{path}");
    }
}

#[test]
fn a_folder_swapped_for_a_link_between_looking_and_opening_leads_nowhere() {
    let (roots, folder) = roots();
    let root = folder.path().join("root");
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("app.log"), "secret").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::rename(root.join("logs"), root.join("kept")).unwrap();
                symlink(&outside, root.join("logs")).unwrap();
                std::fs::remove_file(root.join("logs")).unwrap();
                std::fs::rename(root.join("kept"), root.join("logs")).unwrap();
            }
        });
        for _ in 0..3000 {
            match roots.read("logs/app.log", 100) {
                Ok(bytes) => assert_eq!(bytes, b"hello\n"),
                Err(error) => assert_ne!(error.kind, Kind::Internal, "{error}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_pipe_does_not_hang_and_sockets_and_folders_are_refused() {
    let (roots, folder) = roots();
    let root = folder.path().join("root");
    let fifo = root.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let other = roots.clone();
    std::thread::spawn(move || sender.send(other.read("fifo", 9).unwrap_err()));
    let error = receiver.recv_timeout(Duration::from_secs(30)).expect("opening a pipe does not wait");
    assert!(error.message.contains("pipe"), "{error}");
    for path in ["socket", "logs", "logs/", "."] {
        assert_eq!(refused(&roots, path).kind, Kind::Invalid, "{path}");
    }
    assert_eq!(roots.replace("fifo", b"x").unwrap_err().kind, Kind::Invalid);
    assert_eq!(open_named(&fifo).unwrap_err().kind, Kind::Invalid);
    assert_eq!(open_named(Path::new("/dev/null")).unwrap_err().kind, Kind::Invalid);
}

#[test]
fn hard_names_are_refused_or_taken_as_they_are() {
    let (roots, _folder) = roots();
    let long = "x".repeat(300);
    let deep = "d/".repeat(200) + "x";
    let huge = "a/".repeat(5000);
    for path in ["", "a\0b", &long, &deep, &huge] {
        assert_eq!(refused(&roots, path).kind, Kind::Invalid);
        assert_eq!(roots.create_new(path, b"x").unwrap_err().kind, Kind::Invalid);
    }
    assert!(refused(&roots, &huge).message.len() < 400);
    let error = refused(&roots, "no\u{1b}[31m such\nfile");
    assert!(!error.message.contains(['\u{1b}', '\n']), "{error}");
    for name in ["-rf", "a b", "ü", "quote\"'`$(x)", "line\nbreak", "...", "C:\\x"] {
        roots.create_new(name, name.as_bytes()).unwrap();
        assert_eq!(roots.read(name, 100).unwrap(), name.as_bytes());
    }
}

#[test]
fn a_new_file_appears_whole_is_private_and_does_not_replace_another() {
    let (roots, folder) = roots();
    let path = roots.create_new("exports/june/a.csv", b"1,2\n").unwrap();
    assert_eq!((std::fs::read(&path).unwrap().as_slice(), mode(&path)), (b"1,2\n".as_slice(), 0o600));
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(roots.create_new("exports/june/a.csv", b"other").unwrap_err().kind, Kind::Conflict);
    assert_eq!(std::fs::read(&path).unwrap(), b"1,2\n");
    roots.replace("exports/june/a.csv", b"3,4\n").unwrap();
    assert_eq!((std::fs::read(&path).unwrap().as_slice(), mode(&path)), (b"3,4\n".as_slice(), 0o600));

    let mut dropped = roots.create("exports/june/b.csv").unwrap();
    dropped.write(b"half").unwrap();
    drop(dropped);
    let names = std::fs::read_dir(folder.path().join("root/exports/june")).unwrap();
    assert_eq!(names.count(), 1, "nothing is left of what was not finished");
}

#[test]
fn a_folder_is_listed_by_name_up_to_the_limit() {
    let (roots, folder) = roots();
    for name in ["c", "a", "b"] {
        std::fs::write(folder.path().join("root/logs").join(name), name).unwrap();
    }
    let listing = roots.list("logs", 3).unwrap();
    let names: Vec<&str> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!((names.as_slice(), listing.more), (["a", "app.log", "b"].as_slice(), true));
    assert_eq!(listing.entries[1].bytes, 6);
    let listing = roots.list("logs", 5).unwrap();
    assert!(listing.entries[4].folder && !listing.more);
    assert_eq!(roots.list("logs/app.log", 5).unwrap_err().kind, Kind::NotFound);
}

#[test]
fn a_relative_path_is_looked_for_in_every_root_and_made_in_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = ["one", "two"].iter().map(|name| folder.path().join(name)).collect();
    for path in &paths {
        std::fs::create_dir(path).unwrap();
    }
    std::fs::write(paths[1].join("x"), "second").unwrap();
    let roots = Roots::new(&paths).unwrap();
    assert_eq!(roots.read("x", 100).unwrap(), b"second");
    assert_eq!(roots.create_new("y", b"").unwrap().parent().unwrap(), roots.paths().next().unwrap());
}

#[test]
fn the_default_root_is_made_in_the_data_folder_and_a_missing_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let roots = FilesConfig::default().open(folder.path()).unwrap();
    assert_eq!(roots.paths().count(), 1);
    assert_eq!(mode(&folder.path().join("files")), 0o700);
    let missing = FilesConfig { roots: vec![folder.path().join("none")] };
    assert_eq!(missing.open(folder.path()).unwrap_err().kind, Kind::Invalid);
    let wrong = ["relative", "/"].map(|path| FilesConfig { roots: vec![path.into()] }.validate());
    assert!(wrong.iter().all(|wrong| wrong.as_ref().unwrap_err().message.starts_with("files.roots: ")));
}

#[test]
fn the_data_folder_is_made_private_and_an_open_one_of_others_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/data");
    let data = DataDir::open(&path).unwrap();
    assert_eq!(mode(data.path()), 0o700);

    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(empty.join("opsroom.yaml"), "").unwrap();
    DataDir::open(&empty).unwrap();
    assert_eq!(mode(&empty), 0o700, "a folder with nothing of others is closed to them");

    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("letter.txt"), "dear").unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = DataDir::open(&home).unwrap_err();
    assert_eq!(error.kind, Kind::Forbidden);
    assert!(error.message.contains("0755") && error.message.contains("--data-dir"), "{error}");
    assert_eq!(mode(&home), 0o755, "a folder with other files is left as it is");

    let file = home.join("letter.txt");
    assert_eq!(DataDir::open(&file).unwrap_err().kind, Kind::Invalid);
    assert_eq!(DataDir::open(&file.join("x")).unwrap_err().kind, Kind::Invalid);
}

#[test]
fn a_data_folder_that_cannot_be_written_is_refused() {
    let error = DataDir::open(Path::new("/proc/opsroom")).unwrap_err();
    assert!(error.message.contains("/proc/opsroom") && error.message.contains("--data-dir"), "{error}");
}

#[test]
fn only_one_holds_the_data_folder_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(folder.path()).unwrap();
    let lock = data.lock().unwrap();
    let error = DataDir::open(folder.path()).unwrap().lock().unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert!(error.message.contains(&std::process::id().to_string()), "{error}");
    drop(lock);
    data.lock().unwrap();
}

#[test]
fn a_private_file_is_0600_and_is_not_read_when_others_could_or_over_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::open(folder.path()).unwrap();
    let path = data.write_private("operator.key", b"k1").unwrap();
    data.write_private("operator.key", b"k2").unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(data.read_private("operator.key").unwrap(), b"k2");
    symlink(&path, folder.path().join("alias")).unwrap();
    assert_eq!(data.read_private("alias").unwrap_err().kind, Kind::Forbidden);
    assert_eq!(data.read_private("none").unwrap_err().kind, Kind::NotFound);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(data.read_private("operator.key").unwrap_err().kind, Kind::Forbidden);
}

#[test]
fn the_default_data_folder_is_the_platforms() {
    let environment = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let folder = default_data_dir(&environment(&[("HOME", "/home/ada")])).unwrap();
    assert!(folder.starts_with("/home/ada") && folder.ends_with("opsroom"), "{folder:?}");
    let named = environment(&[("HOME", "/home/ada"), ("XDG_DATA_HOME", "/srv")]);
    assert_eq!(default_data_dir(&named).unwrap(), Path::new("/srv/opsroom"));
    assert_eq!(default_data_dir(&environment(&[("HOME", "")])).unwrap_err().kind, Kind::Invalid);
}
