import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { type CredentialsOf, registryCredentials } from "./eco-credentials.ts";
import type { Comparison, HostState, RunDriver, RunSubject } from "./eco-driver.ts";
import { AegisError } from "./errors.ts";
import { containerdStore, engineStore, type ImageStore, pulledImage } from "./image-docker-store.ts";
import { DOCKER_HUB, normalizeReference } from "./image-reference.ts";
import { createFileExclusive, readText } from "./sys-files.ts";
import { type RunResult, resolveProgram, run } from "./sys-spawn.ts";

/*
 * Runs signed pulls with docker. Its engine fetches the image itself, over a network of its own and by its own settings: the digest
 * is what protects. Afterwards the engine's store is compared with the signed plan.
 */

const ROOT = "/var/lib/docker";
const CONTAINERD = "/var/lib/containerd";
/** The containerd that the distribution starts, and one that docker starts itself; below /var/run or /run. */
const CONTAINERD_SOCKET = "/run/containerd/containerd.sock";
const DOCKERS_SOCKET = "/run/docker/containerd/containerd.sock";
const SOCKET = "unix:///var/run/docker.sock";
const LIMIT_MS = 30 * 60_000;
const READY_MS = 30_000;
const MAX_INFO = 4 * 1024 * 1024;
/** docker's settings in its HOME. */
const SETTINGS = "config.json";
/** Docker Hub in docker's settings, and where it asks for passwords. */
const HUB_KEY = "https://index.docker.io/v1/";
const HUB_HOSTS: readonly string[] = ["auth.docker.io", "registry-1.docker.io"];
/** The path of the store that the run's engine uses. */
const STORE = "store";
/** Created by whoever stops the run. */
const STOPPED = "stopped";

const Info = v.looseObject({
  DockerRootDir: v.optional(v.string(), ""),
  Driver: v.optional(v.string(), ""),
  DriverStatus: v.nullish(v.array(v.array(v.string())), []),
  Containerd: v.nullish(v.looseObject({ Address: v.optional(v.string(), "") })),
  ServerErrors: v.nullish(v.array(v.string()), []),
});

/** What tests replace. */
interface DockerHost {
  root: string;
  /** The directory of the distribution's containerd. */
  containerd: string;
  /** `docker info --format {{json .}}`, or null without docker. */
  info(): Promise<RunResult | null>;
  credentials: CredentialsOf;
}

export function dockerDriver(host: Partial<DockerHost> = {}): RunDriver {
  const {
    root = ROOT,
    containerd = CONTAINERD,
    info = askEngine,
    credentials = registryCredentials(),
  } = host;
  const stores: Stores = {
    own: engineStore(root),
    dockers: containerdStore(join(root, "containerd/daemon")),
    shared: containerdStore(containerd),
  };
  const all = Object.values(stores);
  return {
    user: "root",
    roots: [root, containerd],
    hold: () => Promise.resolve(null),
    async ready() {
      storeOf(await info(), stores);
    },

    async prepare(_plan, argv, { directory, archives }) {
      const program = resolveProgram(argv[0] ?? "");
      if (program === null) throw new AegisError("unavailable", `${argv[0]} is not installed`);
      const store = storeOf(await info(), stores).path;
      const home = join(directory, "home");
      for (const path of [directory, archives, home]) mkdirSync(path, { mode: 0o700 });
      const settings = passwordFor(argv.at(-1) ?? "", credentials);
      if (settings !== null) writeFileSync(join(home, SETTINGS), settings, { mode: 0o600, flag: "wx" });
      writeFileSync(join(directory, STORE), store, { mode: 0o600, flag: "wx" });
      // No settings of anybody else's: another engine, a helper for passwords or a plug-in would be named there.
      return {
        directory,
        program,
        environment: environment(home),
        cwd: home,
        facts: { engine: SOCKET, store },
      };
    },

    // Who asks may not have asked the engine, as after a run that was killed: every store is observed.
    observe: () => Object.fromEntries(all.flatMap((store) => observed(store, root))),
    progress: () => null,
    mayStop: (directory) => createFileExclusive(join(directory, STOPPED), ""),
    wasStopped: (directory) =>
      readText(join(directory, STOPPED)) === null ? null : "before the image was there",
    limitMs: () => LIMIT_MS,
    isAlive: () => false,
    witness(directory, subject) {
      // The run is over, and what it was given for the registry is of no more use.
      rmSync(join(directory, "home", SETTINGS), { force: true });
      const used = readText(join(directory, STORE));
      const store = all.find(({ path }) => path === used) ?? stores.own;
      if (store.images()[pulledImage(subject)] === undefined)
        return { verdict: "absent", reason: "docker's store has nothing under the signed digest" };
      const why = store.otherThan(subject);
      return why === null
        ? { verdict: "vouched" }
        : { verdict: "refused", code: "evidence_mismatch", reason: why };
    },
    compare: (subject, before, after) => compareImages(placesOf(subject, all, root), before, after),
    watchBesides: () => () => [],
    advice: () => Promise.resolve({ text: "", facts: {} }),
  };
}

/**
 * docker's settings with the executor's own password for the image's registry; null without one. docker sends it to its engine, which
 * sends it to that registry, or to whom that names for tokens.
 */
function passwordFor(image: string, credentials: CredentialsOf): string | null {
  const { domain } = normalizeReference(image);
  const [key, hosts] = domain === DOCKER_HUB ? [HUB_KEY, HUB_HOSTS] : [domain, [domain]];
  for (const host of hosts) {
    const [, auth] =
      /^Basic (\S+)$/.exec(credentials(new URL(`https://${host}/`))["authorization"] ?? "") ?? [];
    if (auth !== undefined) return JSON.stringify({ auths: { [key]: { auth } } });
  }
  return null;
}

function environment(home: string): Record<string, string> {
  const common = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C.UTF-8", HOME: home };
  return { ...common, DOCKER_CONFIG: home, DOCKER_HOST: SOCKET };
}

function askEngine(): Promise<RunResult | null> {
  const program = resolveProgram("docker");
  if (program === null) return Promise.resolve(null);
  const options = { env: environment("/nonexistent"), cwd: "/", timeoutMs: READY_MS, maxBytes: MAX_INFO };
  return run(program, ["info", "--format", "{{json .}}"], options);
}

interface Stores {
  own: ImageStore;
  /** Of the containerd that docker starts itself. */
  dockers: ImageStore;
  /** Of the distribution's containerd. */
  shared: ImageStore;
}

/**
 * The store that the engine uses, by its own answer.
 * @throws AegisError `unavailable`
 */
function storeOf(result: RunResult | null, { own, dockers, shared }: Stores): ImageStore {
  const refuse = (why: string, hint: string) => new AegisError("unavailable", why, hint);
  if (result === null)
    throw refuse(
      "docker is not installed",
      "Install docker.io, on Debian 13 docker-cli as well, then apply it again.",
    );
  const tree = result.status === 0 ? tried(() => parseJson(result.stdout.toString("utf8"))) : null;
  const parsed = v.safeParse(Info, tree);
  if (!parsed.success || (parsed.output.ServerErrors ?? []).length > 0)
    throw refuse("docker's engine doesn't answer", "See: systemctl status docker");
  const { DockerRootDir, DriverStatus, Containerd } = parsed.output;
  if (DockerRootDir !== own.path)
    throw refuse(
      `docker's engine keeps its images in ${DockerRootDir}, and what it pulls can be compared in ${own.path} only`,
      "Take data-root out of /etc/docker/daemon.json, or pull with another host.",
    );
  if (!(DriverStatus ?? []).some((pair) => pair.some((word) => word.startsWith("io.containerd.snapshotter"))))
    return own;
  const socket = (Containerd?.Address ?? "").replace(/^\/var\/run\//, "/run/");
  const store = socket === CONTAINERD_SOCKET ? shared : socket === DOCKERS_SOCKET ? dockers : null;
  // A containerd with its state elsewhere may have left an old store here.
  if (store?.isInUse() === true) return store;
  throw refuse(
    store === null
      ? `docker's engine keeps its images in the store of a containerd ${socket === "" ? "that it doesn't name" : `at ${socket}`}, where what it pulls can't be found afterwards`
      : `docker's engine keeps its images in containerd's store, and its containerd doesn't have that in ${store.path}`,
    `Have docker use the containerd at ${CONTAINERD_SOCKET}, with its state in ${shared.path}; or pull with another host.`,
  );
}

function tried<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

/** How a store's reference is called where the stores are observed together. */
function keyIn({ path }: ImageStore, reference: string, root: string): string {
  return path === root ? reference : `${reference} in ${path}`;
}

function observed(store: ImageStore, root: string): [string, string][] {
  return Object.entries(store.images()).map(([reference, id]) => [keyIn(store, reference, root), id]);
}

/** Where the pulled image may be, with what it stands for there. Which of them the engine uses, the witness knows. */
function placesOf(subject: RunSubject, stores: readonly ImageStore[], root: string): Map<string, string> {
  return new Map(stores.map((store) => [keyIn(store, pulledImage(subject), root), store.expected(subject)]));
}

function compareImages(places: ReadonlyMap<string, string>, before: HostState, after: HostState): Comparison {
  const difference = (key: string, wanted: string | null, found: string | null) => ({
    ...{ package: key, architecture: "all", expected: wanted, found },
  });
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  const changed = keys.filter((key) => before[key] !== after[key]);
  const there = [...places].filter(([key]) => after[key] !== undefined);
  const isThere = there.some(([key, wanted]) => after[key] === wanted);
  const others = there.length === 0 ? [...places].slice(0, 1) : there;
  return {
    not_as_planned: isThere ? [] : others.map(([key, wanted]) => difference(key, wanted, after[key] ?? null)),
    changed_besides: changed
      .filter((key) => !places.has(key))
      .map((key) => difference(key, before[key] ?? null, after[key] ?? null)),
    inverse: changed.map((key) => ({
      ...{ package: key, architecture: "all", before: before[key] ?? null, left: after[key] ?? null },
    })),
  };
}
