import type { EventInput } from "./varlink-interface.ts";

const ALIVE_MS = 10_000;

/** Tells whoever watches one execution how it goes. */
export class RunEvents {
  readonly #emit: (event: EventInput) => void;
  #id: string | null = null;
  #last = performance.now();

  /** `emit` never throws and never waits. */
  constructor(emit: (event: EventInput) => void) {
    this.#emit = emit;
  }

  /** The execution that is spoken of; nothing is said before it is known. */
  about(id: string): void {
    this.#id = id;
  }

  say(event: Omit<EventInput, "execution_id">): void {
    this.#last = performance.now();
    if (this.#id !== null) this.#emit({ execution_id: this.#id, ...event });
  }

  /** A sign of life, when nothing else has been said for a while. */
  alive(): void {
    if (performance.now() - this.#last >= ALIVE_MS) this.say({ kind: "alive" });
  }

  /** The same while something is waited for that says nothing itself. */
  async aliveDuring<T>(work: Promise<T>): Promise<T> {
    const timer = setInterval(() => this.alive(), ALIVE_MS);
    try {
      return await work;
    } finally {
      clearInterval(timer);
    }
  }
}
