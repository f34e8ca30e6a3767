//! s3s-fs in this process: a store over a directory whose conditional puts hold one after the other, and race side by side.

use super::Access;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;

/// The server; its objects go with it.
pub struct Within {
    runtime: tokio::runtime::Runtime,
    root: TempDir,
    /// Where it is.
    pub access: Access,
}

impl Within {
    /// Starts a server with the bucket `vault`.
    pub fn start() -> Self {
        let root = TempDir::new().unwrap();
        std::fs::create_dir(root.path().join("vault")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        service.set_auth(SimpleAuth::from_single("ACCESS", "SECRETSECRET"));
        let service = service.build();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that goes away is no matter here.
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self {
            runtime,
            root,
            access: Access::new(&endpoint, "ACCESS", "SECRETSECRET"),
        }
    }
}
