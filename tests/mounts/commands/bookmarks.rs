//! Bookmarks: kept, changed, imported, mounted.

use std::fs;
use std::path::Path;

use scaup_rig::{Fixture, Scaup, Sshd};

use crate::support::{ends_with, said, scaup};

fn file(scaup: &Scaup, name: &str) -> std::path::PathBuf {
    scaup.home().join("config/scaup/bookmarks").join(format!("{name}.toml"))
}

#[test]
fn a_bookmark_is_a_file_with_keys_named_as_the_options() {
    let scaup = scaup();
    ends_with(
        &scaup,
        0,
        [
            "bookmark",
            "add",
            "hq",
            "alice@hq.example:/srv",
            "mountpoint=/mnt/hq",
            "port=2222",
            "identity=~/.ssh/id_hq",
            "vaults=Private,Shared/Team",
            "options=ro,ServerAliveInterval=30",
            "read_only=true",
            "forget_key=true",
            "follow_outside=true",
            "passphrase_command=pass hq",
            "otp_command=pass otp hq",
            "vault_password_command=pass vault",
            "memory=64M",
            "attr_timeout=1",
            "timeout=10",
            "lock_on=screen,sleep,idle=900s",
        ],
    );
    let expected = "target = \"alice@hq.example:/srv\"\nmountpoint = \"/mnt/hq\"\nport = 2222\n\
        identity = \"~/.ssh/id_hq\"\noptions = [\"ro\", \"ServerAliveInterval=30\"]\nforget_key = true\n\
        passphrase_command = \"pass hq\"\notp_command = \"pass otp hq\"\ntimeout = 10\nread_only = true\n\
        vaults = [\"Private\", \"Shared/Team\"]\nvault_password_command = \"pass vault\"\nmemory = \"64M\"\n\
        attr_timeout = 1\nfollow_outside = true\nlock_on = \"sleep,screen,idle=15m\"\n";
    assert_eq!(fs::read_to_string(file(&scaup, "hq")).unwrap(), expected);
    assert_eq!(ends_with(&scaup, 0, ["bookmark", "show", "hq"]), expected);
    assert_eq!(ends_with(&scaup, 0, ["bookmark", "list"]), "hq\talice@hq.example:/srv\n");
    assert!(ends_with(&scaup, 1, ["bookmark", "add", "hq", "other"]).contains("already"));
    ends_with(&scaup, 0, ["bookmark", "edit", "hq", "port=22", "memory="]);
    let changed = fs::read_to_string(file(&scaup, "hq")).unwrap();
    assert!(changed.contains("port = 22\n") && !changed.contains("memory"), "{changed}");
    ends_with(&scaup, 0, ["bookmark", "remove", "hq"]);
    assert!(!file(&scaup, "hq").exists());
    assert!(ends_with(&scaup, 1, ["bookmark", "show", "hq"]).contains("hq"));
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_kept() {
    let scaup = scaup();
    for (name, target, setting) in [
        ("a/b", "host", ""),
        ("..", "host", ""),
        ("x", "a b:", ""),
        ("x", "host", "colour=red"),
        ("x", "host", "port=many"),
        ("x", "host", "memory=much"),
        ("x", "host", "options=nonsense"),
        ("x", "host", "setting"),
    ] {
        let settings: Vec<&str> = [setting].into_iter().filter(|setting| !setting.is_empty()).collect();
        let output = scaup.run([&["bookmark", "add", name, target][..], &settings].concat());
        assert!(matches!(output.status.code(), Some(1 | 2)), "{name} {target} {setting}: {}", said(&output));
        assert!(!file(&scaup, "x").exists());
    }
}

#[test]
fn an_editor_changes_all_of_it_and_what_it_breaks_is_not_kept() {
    let scaup = scaup();
    ends_with(&scaup, 0, ["bookmark", "add", "hq", "host"]);
    let edit = |editor: &str| {
        scaup.command().env("EDITOR", editor).args(["bookmark", "edit", "hq"]).output().unwrap()
    };
    let output = edit("sed -i s/host/elsewhere/");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(file(&scaup, "hq")).unwrap(), "target = \"elsewhere\"\n");
    for editor in ["sed -i s/target/nonsense/", "false"] {
        assert_eq!(edit(editor).status.code(), Some(1));
        assert_eq!(fs::read_to_string(file(&scaup, "hq")).unwrap(), "target = \"elsewhere\"\n");
    }
    assert_eq!(
        fs::read_dir(file(&scaup, "hq").parent().unwrap()).unwrap().count(),
        1,
        "nothing else is left"
    );
}

#[test]
fn a_bookmark_is_mounted_by_its_name() {
    let scaup = scaup();
    let sshd = Sshd::builder().start();
    let vault = Fixture::unpack("gcm8");
    fs::create_dir(sshd.home().join("files")).unwrap();
    vault.copy_vault_to(&sshd.home().join("files/Private"));
    sshd.give(&sshd.home());
    fs::create_dir(scaup.home().join(".ssh")).unwrap();
    fs::copy(sshd.key().path(), scaup.home().join(".ssh/id_hq")).unwrap();
    let setting = |key: &str, value: &str| format!("{key}={value}");
    ends_with(
        &scaup,
        0,
        [
            "bookmark".to_owned(),
            "add".to_owned(),
            "hq".to_owned(),
            format!("{}@{}:files", sshd.user(), sshd.host()),
            setting("port", &sshd.port().to_string()),
            setting("identity", "~/.ssh/id_hq"),
            setting("mountpoint", "~/Drives/hq"),
            setting("vaults", "Private"),
            setting("options", &format!("UserKnownHostsFile={}", sshd.known_hosts_file().display())),
            setting("passphrase_command", &scaup.command_answering(Sshd::PASSPHRASE)),
            setting("otp_command", &sshd.totp_command()),
            setting("vault_password_command", &scaup.command_answering(&vault.manifest.password)),
        ],
    );
    ends_with(&scaup, 0, ["mount", "hq"]);
    let mountpoint = scaup.home().join("Drives/hq");
    let status = scaup.status();
    assert_eq!(status["mounts"][0]["name"], "hq");
    assert_eq!(status["mounts"][0]["mountpoint"], mountpoint.to_str().unwrap());
    assert_eq!(status["mounts"][0]["vaults"][0]["state"], "unlocked");
    assert!(fs::read_dir(mountpoint.join("Private")).unwrap().count() > 0);
    ends_with(&scaup, 0, ["unmount", "hq"]);
    assert!(!mountpoint.exists());
}

#[test]
fn hosts_of_an_ssh_config_are_imported() {
    let scaup = scaup();
    fs::create_dir(scaup.home().join(".ssh")).unwrap();
    fs::write(
        scaup.home().join(".ssh/config"),
        "Host hq backup\n  HostName hq.example\nHost *.office !x\nHost gate\n",
    )
    .unwrap();
    ends_with(&scaup, 0, ["bookmark", "add", "gate", "elsewhere"]);
    let words = ends_with(&scaup, 0, ["bookmark", "import"]);
    assert!(words.contains("hq") && words.contains("already"), "{words}");
    assert_eq!(ends_with(&scaup, 0, ["bookmark", "list"]), "backup\tbackup\ngate\telsewhere\nhq\thq\n");
    assert!(ends_with(&scaup, 1, ["bookmark", "import", "/missing"]).contains("/missing"));
}

#[test]
fn hosts_of_included_files_are_imported() {
    let scaup = scaup();
    let ssh = scaup.home().join(".ssh");
    fs::create_dir_all(ssh.join("conf.d/office")).unwrap();
    for (name, text) in [
        (
            "config",
            "Include conf.d/*.conf missing\nHost gate\n  Include conf.d/below\nMatch all\nInclude conf.d/last\n",
        ),
        ("conf.d/10.conf", "Host hq\n  HostName hq.example\nHost *.office\nInclude conf.d/*/printers\n"),
        ("conf.d/office/printers", "Host one.office two.elsewhere\n  Include conf.d/10.conf\n"),
        // Nothing leads there but by the name `gate`.
        ("conf.d/below", "Host gate inner\n  User alice\n"),
        ("conf.d/last", "Host hq last\n"),
    ] {
        fs::write(ssh.join(name), text).unwrap();
    }
    ends_with(&scaup, 0, ["bookmark", "import"]);
    let listed = ends_with(&scaup, 0, ["bookmark", "list"]);
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(names, ["gate", "hq", "last", "one.office"]);
}

/// What Mountain Duck writes, with these entries.
fn duck(entries: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\">\n<dict>\n{entries}\n</dict>\n</plist>\n"
    )
}

#[test]
fn duck_files_are_imported() {
    let scaup = scaup();
    let write = |name: &str, content: &str| {
        let path = scaup.home().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let entries = "<key>Protocol</key><string>sftp</string><key>Nickname</key><string>Head quarters</string>\
        <key>Hostname</key><string>hq.example</string><key>Port</key><string>2222</string>\
        <key>Username</key><string>alice</string><key>Path</key><string>/srv/next cloud</string>\
        <key>Private Key File Dictionary</key><dict><key>Path</key><string>~/.ssh/id_hq</string></dict>\
        <key>Readonly</key><true/>";
    let good = write("good.duck", &duck(entries));
    ends_with(&scaup, 0, ["bookmark".as_ref(), "import".as_ref(), good.as_os_str()]);
    let bookmark = fs::read_to_string(file(&scaup, "Head-quarters")).unwrap();
    for line in [
        "target = \"alice@hq.example:/srv/next cloud\"",
        "port = 2222",
        &format!("identity = \"{}/.ssh/id_hq\"", scaup.home().display()),
        "read_only = true",
    ] {
        assert!(bookmark.lines().any(|found| found == line), "{line}: {bookmark}");
    }
    let other = entries.replace("sftp", "davs");
    for (name, content) in [("dav.duck", duck(&other)), ("bad.duck", "nonsense".to_owned())] {
        let path = write(name, &content);
        let words = ends_with(&scaup, 1, ["bookmark".as_ref(), "import".as_ref(), path.as_os_str()]);
        assert!(words.contains(name), "{words}");
    }
    assert_eq!(fs::read_dir(Path::new(&file(&scaup, "x")).parent().unwrap()).unwrap().count(), 1);
}
