"""A real Kubernetes API server for tests: etcd, kube-apiserver and more, on loopback."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.tools.kube_binaries import ROOT, binaries
from tests.tools.kube_certificates import write_accounts_key, write_certificates
from tests.tools.ports import free_port, free_ports
from tests.tools.waiting import SECONDS, eventually

STOP_SECONDS: Final = 20.0
KUBECTL_SECONDS: Final = 2 * SECONDS
# There are neither nodes nor a cloud; what these would do is only cost.
UNUSED_CONTROLLERS: Final = ("nodeipam", "nodelifecycle", "service", "route", "attachdetach")


class KubeCluster:
    """A cluster without nodes: pods stay Pending. Its data and port outlive `stop` and `kill`.

    Args:
        folder: made here; everything of the cluster lies in it.

    Attributes:
        url: of the API server; etcd: of its store.
        kubeconfig: the admin's.
    """

    def __init__(self, folder: Path) -> None:
        self._binaries = binaries()
        folder.mkdir(parents=True)
        self._folder = folder
        self._certificates = write_certificates(folder / "pki")
        self._port, etcd, self._peer = free_ports(3)
        self.etcd = f"http://127.0.0.1:{etcd}"
        self.url = f"https://127.0.0.1:{self._port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        files = self._certificates
        cert = {"client-certificate": str(files.admin), "client-key": str(files.admin_key)}
        self.kubeconfig = self._write_kubeconfig("admin", cert)

    def start(self) -> None:
        """Start etcd and the API server where they do not run, and wait until it answers."""
        if not self.runs("etcd"):
            self._start("etcd", self._etcd_flags())
        if not self.runs("kube-apiserver"):
            self._start("kube-apiserver", self._api_flags())
        self._await(f"{self.url}/readyz")

    def start_controllers(self) -> None:
        """Start what ends namespaces, collects garbage and makes pods of Deployments."""
        port = free_port()
        flags = {
            "kubeconfig": self.kubeconfig,
            "leader-elect": "false",
            "service-account-private-key-file": self._certificates.accounts_key,
            "root-ca-file": self._certificates.authority,
            "controllers": ",".join(("*", *(f"-{name}" for name in UNUSED_CONTROLLERS))),
            "bind-address": "127.0.0.1",
            "secure-port": port,
            "tls-cert-file": self._certificates.server,
            "tls-private-key-file": self._certificates.server_key,
        }
        self._start("kube-controller-manager", flags)
        self._await(f"https://127.0.0.1:{port}/healthz")

    def rotate_accounts_key(self) -> None:
        """Sign tokens with another key from now on; those of before are not published any more."""
        self.kill("kube-apiserver")
        write_accounts_key(self._certificates)
        self.start()

    def runs(self, name: str) -> bool:
        """True while the process of that binary runs."""
        return name in self._processes and self._processes[name].poll() is None

    def kill(self, name: str) -> None:
        """SIGKILL one binary's process."""
        process = self._processes.pop(name)
        process.kill()
        process.wait(STOP_SECONDS)

    def stop(self) -> None:
        """SIGTERM, the last started first; killed when one does not end."""
        for name, process in reversed(self._processes.items()):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                # etcd comes last, and nobody misses what it has not written yet.
                process.wait(0.0 if name == "etcd" else STOP_SECONDS)
            process.kill()
            process.wait(STOP_SECONDS)
        self._processes.clear()

    def kubectl(
        self, *words: str, text: str = "", kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl to its end, whatever that is.

        Args:
            text: its standard input, as for `apply --filename -`.
            kubeconfig: another than the admin's.
        """
        return subprocess.run(
            [self._binaries / "kubectl", *words],
            env={"KUBECONFIG": str(kubeconfig or self.kubeconfig), "HOME": str(self._folder)},
            input=text,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            check=False,
        )

    def apply(self, *files: Path) -> None:
        """Apply files, and wait until the custom resources that they define are served."""
        named = [word for file in files for word in ("--filename", str(file))]
        done = self.kubectl("apply", *named)
        assert done.returncode == 0, done.stderr
        done = self.kubectl("wait", "--for=condition=Established", "--timeout=90s", "crd", "--all")
        assert done.returncode == 0, done.stderr
        # Discovery comes a moment later.
        eventually(
            lambda: self.kubectl("get", "mcp", "--all-namespaces").returncode == 0,
            "kubectl finds the custom resources",
        )

    def account(self, namespace: str, name: str, audiences: Sequence[str] = ()) -> Path:
        """Make a service account, which may do nothing yet; its kubeconfig, by token."""
        done = self.kubectl("create", "serviceaccount", name, "--namespace", namespace)
        assert done.returncode == 0, done.stderr
        return self.kubeconfig_of(namespace, name, audiences)

    def kubeconfig_of(self, namespace: str, name: str, audiences: Sequence[str] = ()) -> Path:
        """A kubeconfig of a service account that is there, by token."""
        token = self.token(namespace, name, audiences)
        return self._write_kubeconfig(f"{namespace}-{name}", {"token": token})

    def token(self, namespace: str, name: str, audiences: Sequence[str] = ()) -> str:
        """A new token of a service account, for an hour."""
        words = [f"--audience={audience}" for audience in audiences]
        done = self.kubectl("create", "token", name, "--namespace", namespace, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _write_kubeconfig(self, user: str, credential: dict[str, str]) -> Path:
        """JSON is YAML."""
        cluster = {"server": self.url, "certificate-authority": str(self._certificates.authority)}
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": user, "user": credential}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
            "current-context": "tests",
        }
        file = self._folder / f"{user}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(json.dumps(config, indent=2))
        return file

    def _start(self, name: str, flags: dict[str, Any]) -> None:
        words = [
            str(self._binaries / name),
            *(f"--{flag}={value}" for flag, value in flags.items()),
        ]
        with (self._folder / f"{name}.log").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                words, stdout=out, stderr=out, cwd=self._folder
            )

    def _etcd_flags(self) -> dict[str, Any]:
        peer = f"http://127.0.0.1:{self._peer}"
        return {
            "data-dir": self._folder / "etcd",
            "unsafe-no-fsync": "true",
            "listen-client-urls": self.etcd,
            "advertise-client-urls": self.etcd,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "log-level": "warn",
        }

    def _api_flags(self) -> dict[str, Any]:
        files = self._certificates
        return {
            "etcd-servers": self.etcd,
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": self._port,
            "endpoint-reconciler-type": "none",
            "tls-cert-file": files.server,
            "tls-private-key-file": files.server_key,
            "client-ca-file": files.authority,
            "authorization-mode": "RBAC",
            "anonymous-auth": "false",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": files.accounts_public,
            "service-account-signing-key-file": files.accounts_key,
            "service-cluster-ip-range": "10.0.0.0/24",
            "allow-privileged": "true",
            "disable-admission-plugins": "ServiceAccount",
            "shutdown-delay-duration": "0s",
        }

    def _await(self, url: str) -> None:
        """Wait until it is well, or fail with the log of what has ended instead."""
        context = ssl.create_default_context(cafile=str(self._certificates.authority))
        context.load_cert_chain(self._certificates.admin, self._certificates.admin_key)
        eventually(lambda: self._is_well(url, context), f"{url} answers")

    def _is_well(self, url: str, context: ssl.SSLContext) -> bool:
        for name, process in self._processes.items():
            assert process.poll() is None, self._told(name)
        return _answers(url, context)

    def _told(self, name: str) -> str:
        return f"{name}: " + (self._folder / f"{name}.log").read_text()[-4000:]


@contextmanager
def running_cluster(folder: Path) -> Iterator[KubeCluster]:
    """A started cluster; ended with the block, whatever happened to it meanwhile."""
    cluster = KubeCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@contextmanager
def governed_cluster(folder: Path) -> Iterator[KubeCluster]:
    """One that serves the custom resources."""
    with running_cluster(folder) as cluster:
        cluster.apply(*sorted((ROOT / "k8s/crds").glob("mcp*.yaml")))
        yield cluster


def _answers(url: str, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5, context=context):
            return True
    except (urllib.error.URLError, OSError):
        return False
