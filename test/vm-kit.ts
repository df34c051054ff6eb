import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Chain, chainOn } from "./e2e-kit.ts";
import { ROOT } from "./kit.ts";
import type { ThrowawayHost } from "./throwaway.ts";
import type { ExecResult } from "./throwaway-inside.ts";
import { startRepository } from "./throwaway-repo.ts";
import { newVm, VM_ROOT } from "./vm-image.ts";
import type { Vm } from "./vm-machine.ts";

/*
 * A production host in a virtual machine: root plans and signs, alice approves and submits. Packages are installed without
 * an approval, which these tests are not about.
 */

export interface VmChain extends Chain {
  readonly vm: Vm;
}

const POLICY = "/etc/aegis/policy.toml";
const DROP_IN = "/etc/systemd/system/aegis-runner@.service.d/test.conf";
const AEGIS = "/usr/local/bin/aegis";

export async function startVmChain(): Promise<VmChain> {
  const directory = mkdtempSync(join(tmpdir(), "aegis-vm-"));
  const repo = await startRepository();
  const vm = await newVm(directory);
  const elsewhere = () => {
    throw new Error("a virtual machine's files and processes are reached by commands alone");
  };
  const apt = async (...words: readonly string[]) => {
    await vm.sh(`DEBIAN_FRONTEND=noninteractive apt-get ${words.join(" ")}`);
  };
  const host: ThrowawayHost = {
    repo,
    exec: (argv, options) => vm.exec(argv, options),
    read: (path) => vm.read(path),
    write: (path, data, mode) => vm.write(path, data, mode),
    spawn: elsewhere,
    interact: elsewhere,
    path: elsewhere,
    addSource: elsewhere,
    aptUpdate: () => apt("update", "-qq", "-o", "APT::Update::Error-Mode=any"),
    aptInstall: (...targets) => apt("install", "-y", ...targets),
    async stop() {
      await vm.stop();
      await repo.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  try {
    await vm.boot(VM_ROOT);
    // This machine's loopback address inside a qemu guest.
    const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    vm.write("/root/throwaway.gpg", repo.key.public);
    await vm.sh(`cat /root/throwaway.gpg >> ${keyring}`);
    const source = repo.url.replace("127.0.0.1", "10.0.2.2");
    vm.write("/etc/apt/sources.list", `deb [signed-by=${keyring}] ${source} ${repo.suite} main\n`);
    vm.write("/root/aegis", readFileSync(join(ROOT, "dist/aegis")), 0o755);
    await vm.sh(
      "useradd -m alice; useradd -m bob; /root/aegis daemon install; usermod -aG aegis-admin alice",
    );
    const chain = await chainOn(host, { signer: "root", approver: "alice" });
    vm.write(POLICY, '[apt]\ninstall = "allow"\n');
    await vm.sh("/root/aegis daemon install; sync");
    return { ...chain, vm };
  } catch (error) {
    await host.stop();
    throw error;
  }
}

/** The drop-in for the runner that `aegis help <topic>` shows: the first one behind the words. */
export function dropInOfHelp(topic: string, words: string): string {
  const { stdout: text } = spawnSync(join(ROOT, "dist/aegis"), ["help", topic], { encoding: "utf8" });
  const from = text.indexOf(words);
  const block = /\[Service\](?:\n {0,4}[A-Z]\w+=.*)+/.exec(text.slice(from));
  if (from < 0 || block === null) throw new Error(`aegis help ${topic} has no drop-in after "${words}"`);
  return `${block[0].replace(/^ +/gm, "")}\n`;
}

/** Gives the runner's unit this drop-in, or none. */
export async function setDropIn({ vm }: VmChain, text: string | null): Promise<void> {
  if (text === null) await vm.sh(`rm -f ${DROP_IN}`);
  else vm.write(DROP_IN, text);
  await vm.sh("systemctl daemon-reload");
}

/** Plans and signs the installation of a package that policy allows, into a file that survives reboots. */
export async function signedInstall(chain: VmChain, name: string) {
  const { execution, path } = await chain.signed("apt", "install", name);
  const kept = `/home/alice/${name}.json`;
  await chain.vm.sh(`install -m 644 ${path} ${kept}`);
  return { id: execution.execution_plan_id, path: kept };
}

/** Alice submits in the background; the promise never rejects, even if the machine dies. */
export function submitted({ vm }: VmChain, path: string): Promise<ExecResult> {
  return vm
    .exec([AEGIS, "apply", path], { user: "alice", timeoutMs: 120_000 })
    .catch((error) => ({ status: 255, stdout: "", stderr: String(error) }));
}

/** Alice's result: the exit status, and the code of a refusal. */
export async function answer(chain: VmChain, path: string): Promise<string> {
  const { status, stderr } = await submitted(chain, path);
  const code = /\[(\w+)\]/.exec(stderr)?.[1];
  return code === undefined ? String(status) : `${status} ${code}`;
}

/** Waits until a command inside succeeds. */
export async function untilInside({ vm }: VmChain, script: string): Promise<void> {
  for (const end = Date.now() + 600_000; (await vm.exec(["sh", "-c", script])).status !== 0; ) {
    if (Date.now() > end) throw new Error(`it did not come: ${script}`);
    await Bun.sleep(200);
  }
}

/** Kinds of an execution's events, oldest first, once nothing runs any more and the log verifies. */
export async function kindsOf(chain: VmChain, id: string): Promise<unknown[]> {
  await untilInside(chain, "! pgrep -f '[a]egis daemon --r(unner|ecover)'");
  await chain.vm.sh(`${AEGIS} audit verify --system`);
  return events(chain)
    .filter((event) => event["execution_id"] === id)
    .map((event) => event["kind"]);
}

/** The production log, oldest first. */
export function events({ vm }: VmChain): Record<string, unknown>[] {
  const lines = vm.read("/var/log/aegis/audit.ndjson").split("\n");
  return lines.slice(0, -1).map((line) => JSON.parse(line));
}

/** How often apt was started with this package, by its own history. */
export async function timesBegun({ vm }: VmChain, name: string): Promise<number> {
  const { stdout } = await vm.exec(["grep", "-c", `^Commandline: .* ${name}=`, "/var/log/apt/history.log"]);
  return Number(stdout);
}
