//! What the tests share.

mod load;

pub(crate) use load::Load;
use logboat_tests::process::{Cluster, ClusterSpec, PATIENCE, ProcessError, Program};
use redis::{Connection, RedisError, RedisResult};
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What a test returns.
pub(crate) type TestResult<T = ()> = Result<T, Failed>;

/// An error type without a value. An error panics where `?` meets it. So the line is shown, and the
/// clusters that are dropped meanwhile print what their nodes said.
#[derive(Debug)]
pub(crate) enum Failed {}

impl<E: Error> From<E> for Failed {
    #[track_caller]
    fn from(error: E) -> Self {
        panic!("{error}")
    }
}

/// The server's command line.
pub(crate) fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_chaos"))
}

/// A cluster of `nodes` with short timeouts and small segments, and with these options as well.
pub(crate) fn spec(nodes: u16, options: &[&str]) -> ClusterSpec {
    let common = ["--election-timeout-ms", "500", "--wal-segment-bytes", "262144"];
    let options = common.iter().chain(options).map(ToString::to_string).collect();
    ClusterSpec { program: program(), nodes, options }
}

/// A cluster of three nodes and eight groups that all tests which stop no node share, as long as
/// one of them uses it.
pub(crate) fn shared_cluster() -> Result<Arc<Cluster>, ProcessError> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = shared.upgrade() {
        return Ok(cluster);
    }
    let cluster = Arc::new(Cluster::start(&spec(3, &["--groups", "8"]))?);
    *shared = Arc::downgrade(&cluster);
    Ok(cluster)
}

/// Sets a key.
pub(crate) fn set(client: &mut Connection, key: &str, value: &str) -> RedisResult<()> {
    redis::cmd("SET").arg(key).arg(value).query(client)
}

/// Sets a key while nodes come and go: again if whoever was to answer has gone.
pub(crate) fn set_again(client: &mut Connection, key: &str, value: &str) -> RedisResult<()> {
    let is_unknown = |error: &RedisError| error.code() == Some("UNKNOWN");
    let mut outcomes = (0..5).map(|_| set(client, key, value));
    let known = outcomes.find(|outcome| !outcome.as_ref().is_err_and(is_unknown));
    known.unwrap_or_else(|| set(client, key, value))
}

/// A key's value.
pub(crate) fn get(client: &mut Connection, key: &str) -> RedisResult<Option<String>> {
    redis::cmd("GET").arg(key).query(client)
}

/// The text of an error reply: its code and what follows.
pub(crate) fn refusal<T>(result: RedisResult<T>) -> String {
    match result {
        Ok(_) => "no error".to_owned(),
        Err(error) => error_text(&error),
    }
}

fn error_text(error: &RedisError) -> String {
    let code = error.code().unwrap_or_default();
    format!("{code} {}", error.detail().unwrap_or_default())
}

/// Sends bytes to a port as they are and reads until the other side closes. A reset is an end too:
/// it means that not all was read there.
pub(crate) fn talk(port: u16, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    let talked = stream.write_all(bytes).and_then(|()| stream.read_to_end(&mut answer));
    match talked {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(error),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Copies a directory and all that is in it to a place where nothing is.
pub(crate) fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
