import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ExecOptions, type ExecResult, exitOf, ROOT_ENV } from "./throwaway-inside.ts";

/*
 * A qemu virtual machine without hardware support: its own kernel, clock and memory, some thirty times slower than this
 * machine. Commands go over ssh on the loopback address, and it ends with this process.
 */

/** Boot files of a machine, in `vm-image.ts`'s directory. */
export interface VmFiles {
  kernel: string;
  initrd: string;
  /** A raw disk image; it is written to. */
  disks: readonly string[];
  /** The ssh key of root. */
  key: string;
}

/** Time limits are multiplied by this; they are given for a machine of ordinary speed. */
const SLOWER = 15;

export class Vm {
  readonly #files: VmFiles;
  readonly #directory = mkdtempSync(join(tmpdir(), "aegis-vm-"));
  #qemu: ChildProcess | null = null;
  #port = 0;
  #boots = 0;

  constructor(files: VmFiles) {
    this.#files = files;
  }

  /** Boots and waits until systemd has finished. `firmware`: from the disk's own boot loader. */
  async boot(root: string, how: { firmware?: boolean } = {}): Promise<void> {
    const { kernel, initrd, disks } = this.#files;
    this.#port = await freePort();
    this.#boots += 1;
    const append = `root=${root} rw console=ttyS0 quiet net.ifnames=0 panic=-1`;
    const direct = how.firmware ? [] : ["-kernel", kernel, "-initrd", initrd, "-append", append];
    const words = [
      ...["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "2048"],
      ...["-display", "none", "-no-reboot", "-serial", `file:${this.#directory}/console`],
      ...direct,
      ...disks.flatMap((file) => ["-drive", `file=${file},format=raw,if=virtio,cache=writeback`]),
      ...["-netdev", `user,id=n,hostfwd=tcp:127.0.0.1:${this.#port}-:22`],
      ...["-device", "virtio-net-pci,netdev=n", "-device", "virtio-rng-pci"],
    ];
    // It ends with this process, however that ends.
    const qemu = spawn("setpriv", ["--pdeathsig", "KILL", "qemu-system-x86_64", ...words], {
      env: ROOT_ENV,
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#qemu = qemu;
    let said = "";
    qemu.stderr?.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    for (const end = Date.now() + 600_000; ; await Bun.sleep(1000)) {
      if (qemu.exitCode !== null || Date.now() > end) {
        throw new Error(`the virtual machine did not boot: ${said}\n${this.console().slice(-2000)}`);
      }
      const up = await this.exec(["systemctl", "is-system-running", "--wait"]).catch(() => null);
      if (/^(?:running|degraded)$/m.test(up?.stdout ?? "")) return;
    }
  }

  console(): string {
    const file = join(this.#directory, "console");
    return existsSync(file) ? readFileSync(file, "utf8") : "";
  }

  /** Runs a command to its end. Does not throw for a non-zero status; 255 is ssh's own. `heard` gets output as it comes. */
  exec(
    argv: readonly string[],
    options: ExecOptions & { heard?: (text: string) => void } = {},
  ): Promise<ExecResult> {
    const { timeoutMs = 60_000, heard } = options;
    const child = spawn("ssh", this.#ssh(argv, options), { env: ROOT_ENV, stdio: ["pipe", "pipe", "pipe"] });
    const texts = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      texts[0] += text;
      heard?.(text);
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      texts[1] += text;
    });
    child.stdin.on("error", () => {});
    child.stdin.end(options.stdin ?? "");
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill("SIGKILL");
        reject(new Error(`${argv.join(" ")}: still running\n${texts.join("")}`));
      }, timeoutMs * SLOWER);
      child.once("close", (status) => {
        clearTimeout(timer);
        resolve({ status: status ?? 255, stdout: texts[0] ?? "", stderr: texts[1] ?? "" });
      });
    });
  }

  /** @throws Error with the output of the failed command */
  async sh(script: string): Promise<string> {
    const { status, stdout, stderr } = await this.exec(["bash", "-c", `set -e\n${script}`]);
    if (status !== 0) throw new Error(`${script}\nexit ${status}\n${stdout}${stderr}`);
    return stdout;
  }

  /** Both block this whole process. */
  read(path: string): string {
    return this.#now(["cat", path], "");
  }

  write(path: string, data: string | Uint8Array, mode = 0o644): void {
    const script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"';
    this.#now(["sh", "-c", script, "sh", path, mode.toString(8)], data);
  }

  /** Cuts the power: what the kernel had not written is lost. */
  async cutPower(): Promise<void> {
    const qemu = this.#qemu;
    if (qemu === null) return;
    const ended = qemu.exitCode === null && qemu.signalCode === null ? exitOf(qemu) : null;
    qemu.kill("SIGKILL");
    await ended;
    this.#qemu = null;
  }

  async powerOff(): Promise<void> {
    const ended = this.#qemu === null ? null : exitOf(this.#qemu);
    await this.exec(["systemctl", "poweroff"]).catch(() => {});
    await ended;
    this.#qemu = null;
  }

  async stop(): Promise<void> {
    await this.cutPower();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #now(argv: readonly string[], input: string | Uint8Array): string {
    const { status, stdout, stderr } = spawnSync("ssh", this.#ssh(argv, {}), { env: ROOT_ENV, input });
    if (status !== 0) throw new Error(`${argv.join(" ")}: exit ${status}: ${stderr}`);
    return stdout.toString();
  }

  #ssh(argv: readonly string[], { user = "root", cwd, env }: ExecOptions): string[] {
    const home = user === "root" ? "/root" : `/home/${user}`;
    const become = user === "root" ? [] : ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--init-groups"];
    const login = { ...ROOT_ENV, HOME: home, USER: user, LOGNAME: user, ...env };
    const settings = Object.entries(login).map(([name, value]) => `${name}=${value}`);
    const words = [...become, "env", "-i", `--chdir=${cwd ?? home}`, ...settings, ...argv];
    return [
      ...["-q", "-i", this.#files.key, "-p", String(this.#port), "-o", "ConnectTimeout=60"],
      ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"],
      // One connection per boot: each takes the machine a second.
      ...["-o", "ControlMaster=auto", "-o", `ControlPath=${this.#directory}/ssh-${this.#boots}`],
      ...["-o", "ControlPersist=60", "-o", "ServerAliveInterval=30"],
      ...["root@127.0.0.1", words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ")],
    ];
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
