//! Real applications, as Debian ships them, unchanged through the mesh: nginx and curl, redis, PostgreSQL.
#![allow(clippy::unwrap_used, reason = "what is missing fails the test at its line")]

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ambit_harness::{Mesh, Place, Pod, wait_until};
use tempfile::TempDir;

/// Installs everything that these tests run.
const INSTALL: &str =
    "apt-get install -y --no-install-recommends nginx-light curl redis-server redis-tools postgresql";
const START: Duration = Duration::from_secs(15);

/// Runs a program to its good end, with `input`, and returns what it printed.
#[track_caller]
fn piped(place: &Place, program: &str, args: &[&str], input: &str) -> String {
    let mut command = place.command(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Written aside: a program may answer before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}\n(missing? {INSTALL})");
    writer.join().unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn printed(place: &Place, program: &str, args: &[&str]) -> String {
    piped(place, program, args, "")
}

/// Returns the ways to port 8080 of the far pod.
fn ways(mesh: &Mesh) -> [SocketAddr; 4] {
    [mesh.far_service.addr(), mesh.far_service.addr6(), mesh.far.addr(8080), mesh.far.addr6(8080)]
}

fn own_address(pod: &Pod, to: SocketAddr) -> String {
    pod.ips().iter().find(|ip| ip.is_ipv4() == to.is_ipv4()).unwrap().to_string()
}

fn wait_listening(pod: &Pod) {
    let port = |file: &str| {
        let table = String::from_utf8(pod.run("cat", &[file]).stdout).unwrap();
        table.lines().any(|line| line.contains(":1F90 ") && line.contains(" 0A "))
    };
    wait_until("the server to listen on both families; is it installed?", START, || {
        port("/proc/self/net/tcp") && port("/proc/self/net/tcp6")
    });
}

fn nginx_configuration(dir: &Path) -> String {
    let dir = dir.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {dir}/{kind};"))
        .join("\n");
    format!(
        "user root;
        daemon off;
        pid {dir}/nginx.pid;
        error_log stderr;
        events {{}}
        http {{
            {temporary}
            log_format client '$remote_addr $uri $connection_requests';
            access_log {dir}/access.log client;
            server {{
                listen 0.0.0.0:8080;
                listen [::]:8080 ipv6only=on;
                root {dir}/www;
            }}
        }}"
    )
}

#[test]
fn curl_reaches_nginx() {
    let mesh = Mesh::start("nginx", "strict", &[]);
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("www")).unwrap();
    fs::write(path("www/index.html"), "hello from nginx\n").unwrap();
    let large: Vec<u8> = (0..20_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(path("www/large"), &large).unwrap();
    fs::write(path("nginx.conf"), nginx_configuration(dir.path())).unwrap();
    let _nginx = mesh.far.spawn("/usr/sbin/nginx", &["-c", path("nginx.conf").to_str().unwrap()]);
    wait_listening(&mesh.far);
    for to in ways(&mesh) {
        let url = |name: &str| format!("http://{to}/{name}");
        let before = mesh.allowed(1);
        let shown = "%{remote_ip} %{remote_port}\n";
        let text = printed(&mesh.client, "curl", &["-gsSf", &url("index.html"), "-w", shown]);
        assert_eq!(text, format!("hello from nginx\n{} {}\n", to.ip(), to.port()));
        let (copy, again) = (path("copy"), url("index.html"));
        let copy = copy.to_str().unwrap();
        printed(&mesh.client, "curl", &["-gsSf", &url("large"), "-o", copy]);
        assert!(fs::read(copy).unwrap() == large, "20 MB arrive unchanged from {to}");
        let many =
            ["-gsSf", &again, "-o", copy, &again, "-o", copy, &again, "-o", copy, "-w", "%{num_connects} "];
        assert_eq!(printed(&mesh.client, "curl", &many), "1 0 0 ", "one connection is kept alive");
        assert_eq!(mesh.allowed(1) - before, 3, "each connection went through the mesh");
        let log = fs::read_to_string(path("access.log")).unwrap();
        let expected = format!("{} /index.html 3", own_address(&mesh.client, to));
        assert_eq!(log.lines().last(), Some(expected.as_str()), "nginx sees the real client");
    }
}

#[test]
fn redis_cli_reaches_redis() {
    let mesh = Mesh::start("redis", "strict", &[]);
    let dir = TempDir::new().unwrap();
    let args = ["--port", "8080", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", "", "--dir"];
    let args = [&args[..], &[dir.path().to_str().unwrap()]].concat();
    let _redis = mesh.far.spawn("redis-server", &args);
    wait_listening(&mesh.far);
    for to in ways(&mesh) {
        let (ip, port) = (to.ip().to_string(), to.port().to_string());
        let base = ["-h", ip.as_str(), "-p", port.as_str()];
        let cli = |more: &[&str]| printed(&mesh.client, "redis-cli", &[&base, more].concat());
        assert_eq!(cli(&["SET", "greeting", "hello"]), "OK\n");
        assert_eq!(cli(&["GET", "greeting"]), "hello\n");
        let list = cli(&["CLIENT", "LIST"]);
        let own = own_address(&mesh.client, to);
        assert!(list.contains(&format!("addr={own}:")) || list.contains(&format!("addr=[{own}]:")), "{list}");
        let commands: String = (0..10_000).map(|i| format!("SET key:{i} value:{i}\r\n")).collect();
        let piped = piped(&mesh.client, "redis-cli", &[&base[..], &["--pipe"]].concat(), &commands);
        assert!(piped.contains("errors: 0, replies: 10000"), "{piped}");
        assert_eq!(cli(&["GET", "key:9999"]), "value:9999\n");
        let mut subscriber = mesh.client.spawn("redis-cli", &[&base[..], &["SUBSCRIBE", "news"]].concat());
        subscriber.wait_log("subscribe");
        let published =
            printed(&mesh.near, "redis-cli", &[&base[..], &["PUBLISH", "news", "extra"]].concat());
        assert_eq!(published.trim(), "1", "one subscriber");
        subscriber.wait_log("extra");
        assert_eq!(cli(&["FLUSHALL"]), "OK\n");
    }
    assert!(mesh.allowed(1) >= 4 * 8, "through the mesh");
}

/// Returns where Debian keeps the programs of the PostgreSQL that is installed.
fn postgresql_programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.retain(|programs| programs.join("initdb").exists());
    found.sort();
    found.pop().unwrap_or_else(|| panic!("PostgreSQL is missing: {INSTALL}"))
}

fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// Makes a database cluster that the user postgres owns and that trusts whoever connects.
fn database(programs: &Path) -> TempDir {
    let dir = TempDir::new().unwrap();
    let (user, group) = postgres_user();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    chown(dir.path(), Some(user), Some(group)).unwrap();
    let mut initdb = Command::new("setpriv");
    initdb.args(AS_POSTGRES).arg(programs.join("initdb")).args(["-A", "trust", "-U", "postgres", "-N", "-D"]);
    let output = initdb.arg(dir.path().join("data")).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let access = dir.path().join("data/pg_hba.conf");
    fs::write(access, "host all all all trust\n").unwrap();
    dir
}

const AS_POSTGRES: [&str; 3] = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];

#[test]
fn psql_reaches_postgresql() {
    let mesh = Mesh::start("postgres", "strict", &[]);
    let programs = postgresql_programs();
    let dir = database(&programs);
    let (server, data) = (programs.join("postgres"), dir.path().join("data"));
    let sockets = format!("unix_socket_directories={}", dir.path().display());
    let args = ["-c", &sockets, "-c", "listen_addresses=*", "-c", "port=8080", "-c", "fsync=off"];
    let start = [&AS_POSTGRES[..], &[server.to_str().unwrap(), "-D", data.to_str().unwrap()], &args].concat();
    let mut postgres = mesh.far.spawn("setpriv", &start);
    postgres.wait_log("ready to accept connections");
    for to in ways(&mesh) {
        let (ip, port) = (to.ip().to_string(), to.port().to_string());
        let base = ["-h", &ip, "-p", &port, "-U", "postgres", "-XAtq", "-v", "ON_ERROR_STOP=1"];
        let psql = |statement: &str| printed(&mesh.client, "psql", &[&base[..], &["-c", statement]].concat());
        let client = psql("SELECT host(inet_client_addr())");
        assert_eq!(client.trim(), own_address(&mesh.client, to), "PostgreSQL sees the real client");
        psql("CREATE TABLE numbers (id int PRIMARY KEY, name text)");
        let rows: String = (1..=10_000).map(|id| format!("{id}\trow number {id}\n")).collect();
        let copy = ["-c", "COPY numbers FROM STDIN"];
        piped(&mesh.client, "psql", &[&base[..], &copy].concat(), &rows);
        assert_eq!(psql("SELECT count(*), sum(id) FROM numbers").trim(), "10000|50005000");
        assert!(psql("COPY (SELECT * FROM numbers ORDER BY id) TO STDOUT") == rows, "COPY out of {to}");
        let selected = psql("SELECT id || E'\\t' || name FROM numbers ORDER BY id");
        assert!(selected == rows, "10,000 rows come back unchanged from {to}");
        psql("DROP TABLE numbers");
    }
    assert!(mesh.allowed(1) >= 4 * 7, "through the mesh");
}
