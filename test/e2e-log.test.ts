import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { openAuditLog } from "../src/audit-log.ts";
import { verifyAuditLog } from "../src/audit-verify.ts";
import { debianPackages, unpackPackages } from "./debian-packages.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { needs } from "./needs.ts";
import { ROOT_ENV } from "./throwaway-inside.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * The production log in use when it grows: a full file is renamed, the chain goes on in a new one, and everything that reads the log reads
 * all of it. What the monitor counts of it is read by the real node exporter.
 */

const LOG = "/var/log/aegis";
const MIB = 1024 ** 2;

describeOnThrowaway("a log that grows", () => {
  let chain: Chain;
  const files = async () =>
    (await chain.host.exec(["sh", "-c", `cd ${LOG}; ls audit*.ndjson`])).stdout.trim().split("\n");
  const run = async (...argv: string[]) => {
    const { status, stdout, stderr } = await chain.host.exec(argv);
    if (status !== 0) throw new Error(`${argv.join(" ")}: ${status}\n${stdout}${stderr}`);
    return stdout;
  };
  /** Fills the current file up to the limit, as executions of years do. */
  const fill = () => {
    const log = openAuditLog(`${chain.host.path(LOG)}/.`, {
      host: "filler",
      mode: 0o640,
      rotateAt: 64 * MIB,
    });
    const details = { message: "filler", text: "x".repeat(7000) };
    for (let n = 0; n < MIB / 7000; n++) log.append({ kind: "monitor_findings", details });
  };

  beforeAll(async () => {
    chain = await startChain();
    await chain.offer("hello-aegis=1.0", "hello-aegis=1.1", "app=1.0", "libapp=1.0");
    chain.host.write("/etc/aegis/policy.toml", "[snapshot]\naccept_declared = true\n");
    chain.host.write("/etc/aegis/aegisd.env", "AEGIS_AUDIT_ROTATE_MIB=1\n");
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  test("a size that is none stops every run, and nothing is used up", async () => {
    const { path } = await chain.signed("apt", "install", "hello-aegis=1.0");
    for (const size of ["0", "4097", "1.5", "-1", "1 GiB"]) {
      chain.host.write("/etc/aegis/aegisd.env", `AEGIS_AUDIT_ROTATE_MIB=${size}\n`);
      const { status, stderr } = await chain.apply(path);
      expect(status).not.toBe(0);
      expect(stderr).toContain("AEGIS_AUDIT_ROTATE_MIB must be a number of MiB from 1 to 4096");
    }
    chain.host.write("/etc/aegis/aegisd.env", "AEGIS_AUDIT_ROTATE_MIB=1\n");
    expect((await chain.apply(path)).status).toBe(0);
  });

  test("an execution goes on in a new file; verify, show, status and replay protection read both", async () => {
    fill();
    const head = (await chain.aegis(["audit", "verify", "--system", "--json"])).stdout;
    const { execution, path } = await chain.signed("apt", "install", "hello-aegis=1.1");
    expect((await chain.apply(path)).status).toBe(0);
    expect(await files()).toEqual(["audit-0000000000000001.ndjson", "audit.ndjson"]);
    const rotated = chain.audit().find(({ kind }) => kind === "log_rotated");
    expect(rotated?.details).toMatchObject({ file: "audit-0000000000000001.ndjson" });
    const verified = await chain.json(["audit", "verify", "--system"]);
    expect(verified).toMatchObject({ status: 0, document: { status: "intact", files: 2 } });
    const { head: kept } = JSON.parse(head) as { head: { sequence: number; hash: string } };
    const since = ["audit", "verify", "--system", "--expect-head", `${kept.sequence}:${kept.hash}`];
    expect((await chain.aegis(since)).status).toBe(0);
    const shown = await chain.json(["audit", "show", "--system", "--execution", execution.execution_plan_id]);
    expect(shown.status).toBe(0);
    const again = await chain.apply(path);
    expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
    expect((await run("stat", "-c", "%a %U %G", `${LOG}/audit.ndjson`)).trim()).toBe("640 root aegis-admin");
  }, 120_000);

  test("a rotated file that is gone, cut or exchanged is said", async () => {
    const name = "audit-0000000000000001.ndjson";
    const damage = async (script: string) => {
      await run("sh", "-ec", `cd ${LOG}; cp -p ${name} /root/kept; ${script}`);
      const { status, stderr, stdout } = await chain.aegis(["audit", "verify", "--system"]);
      await run("sh", "-ec", `mv /root/kept ${LOG}/${name}`);
      return [status, stderr + stdout] as const;
    };
    for (const script of [
      `rm ${name}`,
      `truncate -s -100 ${name}`,
      `sed -i '3s/filler/killer/' ${name}`,
      `cp audit.ndjson ${name}`,
    ]) {
      expect(await damage(script)).toEqual([6, expect.stringMatching(/changed|missing|cut|before/)]);
    }
    expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
  });

  test("killed between the rename and the new file's first event, it goes on where it was", async () => {
    fill();
    // What a runner leaves that is killed right after the rename.
    const first = chain.audit().find(({ kind }) => kind === "log_rotated")?.sequence;
    await run("mv", `${LOG}/audit.ndjson`, `${LOG}/audit-${String(first).padStart(16, "0")}.ndjson`);
    const { path } = await chain.signed("apt", "install", "app");
    expect((await chain.apply(path)).status).toBe(0);
    expect(await chain.json(["audit", "verify", "--system"])).toMatchObject({
      status: 0,
      document: { status: "intact", files: 3 },
    });
  }, 120_000);

  test("processes that append and are killed at any time while it rotates: every acknowledged event is there once", async () => {
    const dir = `${chain.host.path("/var/tmp")}/kills`;
    const source = join(import.meta.dir, "log-writer.ts");
    const acknowledged = new Set<string>();
    const writers = Array.from({ length: 4 }, async (_, n) => {
      for (let round = 0; round < 6; round++) {
        const child = Bun.spawn([process.execPath, source, dir, `${n}-${round}`], {
          env: { PATH: ROOT_ENV.PATH, HOME: "/dev/null" },
          stdout: "pipe",
          stderr: "inherit",
        });
        setTimeout(() => child.kill("SIGKILL"), 150 + ((n * 97 + round * 61) % 250));
        const text = await new Response(child.stdout).text();
        await child.exited;
        for (const line of text.split("\n").slice(0, -1)) acknowledged.add(line);
      }
    });
    await Promise.all(writers);
    const verified = verifyAuditLog(dir);
    expect(verified).toMatchObject({ ok: true });
    expect(verified.ok && verified.files).toBeGreaterThan(2);
    const log = await run("sh", "-ec", "cat /var/tmp/kills/audit*.ndjson");
    const written = [...log.matchAll(/"message":"(\d+-\d+-\d+)"/g)].map(([, id]) => id);
    expect(acknowledged.size).toBeGreaterThan(50);
    expect([...acknowledged].filter((id) => written.filter((one) => one === id).length !== 1)).toEqual([]);
  }, 120_000);

  const exporter = debianPackages("prometheus-node-exporter");
  needs(exporter !== null, "Debian's package prometheus-node-exporter").test(
    "the real node exporter reads the monitor's figures through the link that the help names",
    async () => {
      if (exporter === null) throw new Error("no package");
      await unpackPackages(chain.host, exporter);
      expect((await chain.aegis(["daemon", "--monitor"])).status).toBe(0);
      const help = (await chain.aegis(["help", "files"])).stdout;
      const link = /ln -s (\S+aegis\.prom) (\/var\/lib\/prometheus\/node-exporter\/)/.exec(
        help.replace(/\s+/g, " "),
      );
      expect(link).not.toBeNull();
      await run("ln", "-s", link?.[1] ?? "", link?.[2] ?? "");
      const server = await chain.host.spawn([
        ...["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "prometheus-node-exporter"],
        ...["--web.listen-address=127.0.0.1:19100", "--collector.disable-defaults", "--collector.textfile"],
        "--collector.textfile.directory=/var/lib/prometheus/node-exporter",
      ]);
      try {
        let page = "";
        for (let n = 0; n < 100 && page === ""; n++) {
          page = await fetch("http://127.0.0.1:19100/metrics", { proxy: "" })
            .then((answer) => answer.text())
            .catch(() => "");
          if (page === "") await Bun.sleep(100);
        }
        expect(page).toContain("\nnode_textfile_scrape_error 0\n");
        expect(page).toMatch(/\naegis_executions_total\{outcome="completed"\} [34]\n/);
        expect(page).toContain("\naegis_audit_log_files 3\n");
      } finally {
        server.kill("SIGKILL");
      }
    },
    120_000,
  );
});
