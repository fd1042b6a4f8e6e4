/** A fair lock for asynchronous sections (the core's `kprobe_mutex`). Not recursive. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(section: () => T | Promise<T>): Promise<T> {
    const turn = this.#last.then(section);
    this.#last = turn.catch(() => {});
    return turn;
  }
}
