import { join } from "node:path";
import { parseDocument } from "../src/doc.ts";
import { showArgv } from "../src/terminal.ts";
import { says, startModelServer, VERDICT } from "../test/model-server.ts";
import { startHost, type ThrowawayHost, throwawayUnavailable } from "../test/throwaway.ts";
import { pick } from "../test/throwaway-packages.ts";

/*
 * The demonstration: what an administrator (root), a second person (alice) and the executor each do, with the screens
 * they see. Every command is the compiled binary or a tool of the system; only the model server is fake, unless
 * AEGIS_AI_BASE_URL names one.
 */

const say = (text: string) => process.stdout.write(`${text}\n`);
const colour = process.stdout.isTTY === true;
const heading = (text: string) => say(colour ? `\n\u001b[1m── ${text}\u001b[0m` : `\n── ${text}`);

/** The reply of the fake model server. */
const SAID = {
  ...VERDICT,
  summary: "One small package from the distribution's own archive, without scripts.",
};

const reason = throwawayUnavailable();
if (reason !== null) {
  say(`The demonstration needs a throw-away host, and there can be none here: ${reason}`);
  process.exit(8);
}

const host = await startHost({ binary: join(import.meta.dir, "../dist/aegis") });
try {
  await demonstrate(host);
} finally {
  await host.stop();
}

async function demonstrate(on: ThrowawayHost): Promise<void> {
  type User = "root" | "alice";
  /** Prints a command, runs it on this terminal, and throws on any other exit status. */
  const type = async (user: User, argv: readonly string[], wanted = 0) => {
    say(`\n${user}${user === "root" ? "#" : "$"} ${showArgv(argv)}`);
    const status = await on.interact(argv, { user });
    if (status !== wanted) throw new Error(`exit ${status}, expected ${wanted}`);
    if (wanted !== 0) say(`(exit ${wanted})`);
  };
  const read = async (argv: readonly string[], user: User = "root"): Promise<Record<string, string>> =>
    JSON.parse((await on.exec(argv, { user })).stdout);

  await on.repo.publish(pick("hello-aegis=1.0"));
  await on.aptUpdate();

  heading("keys: root signs executions, alice approves");
  await on.exec(["mkdir", "-p", "/root/keys"]);
  await on.exec(["mkdir", "-p", "/home/alice/keys"], { user: "alice" });
  await type("root", ["aegis", "sign", "keygen", "--out", "/root/keys/sign"]);
  await type("alice", ["aegis", "sign", "keygen", "--out", "/home/alice/keys/approve"]);
  const key = (path: string): string => JSON.parse(on.read(`${path}.pub`)).public_key_hex;
  on.write(
    "/etc/aegis/trusted-keys.toml",
    `[[key]]
id = "ops"
name = "ops@example"
role = "execution"
public_key_hex = "${key("/root/keys/sign")}"

[[key]]
id = "alice"
name = "alice@example"
role = "approval"
public_key_hex = "${key("/home/alice/keys/approve")}"
`,
  );
  await type("root", ["cat", "/etc/aegis/trusted-keys.toml"]);

  heading("intent: a read-only plan");
  await type("root", ["aegis", "plan", "apt", "install", "hello-aegis", "--out", "/tmp/plan.json"]);
  await on.exec(["chmod", "644", "/tmp/plan.json"]);
  const { plan_id: id = "" } = JSON.parse(on.read("/tmp/plan.json"));

  const model = process.env["AEGIS_AI_BASE_URL"];
  using standIn = model === undefined ? startModelServer([says(JSON.stringify(SAID))]) : null;
  heading(
    model === undefined
      ? "a model's review; a stand-in answers here, AEGIS_AI_BASE_URL names a real one"
      : "a model's review",
  );
  await type("root", [
    ...["env", `AEGIS_AI_BASE_URL=${model ?? standIn?.url}`, "aegis", "review", "/tmp/plan.json"],
  ]);

  heading("the deterministic policy's decision: a review can only make it stricter");
  await type("root", ["aegis", "policy", "/tmp/plan.json", "--review", id], 4);

  heading("a second person looks at the same plan and approves it");
  const { policy_result: decided } = await read(["aegis", "policy", "/tmp/plan.json", "--json"]);
  const { plan_hash: hash } = parseDocument("policy", decided);
  await type("alice", [
    ...["aegis", "sign", "approve", "--plan", "/tmp/plan.json", "--reason", "wanted on this host"],
    ...["--key", "/home/alice/keys/approve", "--signer", "alice@example"],
    ...["--confirm", hash, "--out", "/tmp/approval.json"],
  ]);
  await on.exec(["chmod", "644", "/tmp/approval.json"]);

  heading("the signed execution plan");
  await type("root", [
    ...[
      "aegis",
      "sign",
      "--plan",
      "/tmp/plan.json",
      "--policy",
      `/root/.local/share/aegis/policy/${id}.policy.json`,
    ],
    ...[
      "--key",
      "/root/keys/sign",
      "--signer",
      "ops@example",
      "--approval",
      "/tmp/approval.json",
      "--out",
      "/tmp/execution.json",
    ],
  ]);
  await on.exec(["chmod", "644", "/tmp/execution.json"]);
  await type("alice", ["aegis", "sign", "verify", "/tmp/execution.json"]);

  heading("the executor runs exactly that");
  say("\nroot# aegis daemon --executor &");
  const daemon = await on.spawn(["aegis", "daemon", "--executor"]);
  while ((await on.exec(["aegis", "daemon", "status"])).status !== 0) await Bun.sleep(50);
  await type("alice", ["aegis", "apply", "/tmp/execution.json"]);
  await type("alice", ["hello-aegis"]);

  heading("once: the same plan again is refused");
  await type("alice", ["aegis", "apply", "/tmp/execution.json"], 6);

  heading("the tamper-evident log");
  await type("root", ["aegis", "audit", "show", "--system"]);
  await type("root", ["aegis", "audit", "verify", "--system"]);
  await daemon.kill();
  say("\nDone. This machine was not changed: dpkg here does not know hello-aegis.");
}
