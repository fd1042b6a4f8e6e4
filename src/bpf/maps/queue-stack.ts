/** queue and stack (kernel/bpf/queue_stack_maps.c): a ring of max entries and one free place, under one lock. */
import { ERRNO } from '../errors.ts';
import { MapBase, USER_CPU } from './map-base.ts';
import { MAP_HEADER, QUEUE_HEADER } from './map-layout.ts';
import { BPF_EXIST, BPF_NOEXIST } from './map-spec.ts';
import type { BytesOrErrno, MapEntry } from './map-types.ts';

export class QueueMap extends MapBase {
  private field(offset: number): number {
    return this.address + MAP_HEADER.size + offset;
  }

  private get places(): number {
    return this.spec.maxEntries + 1;
  }

  private place(index: number): number {
    return this.address + this.geometry.data + index * this.geometry.stride;
  }

  private next(index: number): number {
    return index + 1 >= this.places ? 0 : index + 1;
  }

  /** Place of the element that pop takes, or undefined. Under the lock. */
  private first(): number | undefined {
    const head = this.load(this.field(QUEUE_HEADER.head));
    const tail = this.load(this.field(QUEUE_HEADER.tail));
    if (head === tail) return undefined;
    if (this.spec.type === 'queue') return tail;
    return head === 0 ? this.places - 1 : head - 1;
  }

  private take(cpu: number, remove: boolean, use: (at: number) => void): number {
    return this.locked(this.field(QUEUE_HEADER.lock), cpu, () => {
      const index = this.first();
      if (index === undefined) return -ERRNO.ENOENT;
      use(this.place(index));
      if (remove) {
        if (this.spec.type === 'queue') this.store(this.field(QUEUE_HEADER.tail), this.next(index));
        else this.store(this.field(QUEUE_HEADER.head), index);
      }
      return 0;
    });
  }

  /** queue_stack_map_push_elem: BPF_EXIST drops the oldest where there is no room. */
  private push(cpu: number, flags: number, write: (at: number) => void): number {
    if ((flags & BPF_NOEXIST) !== 0 || flags > BPF_EXIST || flags < 0) return -ERRNO.EINVAL;
    return this.locked(this.field(QUEUE_HEADER.lock), cpu, () => {
      const head = this.load(this.field(QUEUE_HEADER.head));
      const tail = this.load(this.field(QUEUE_HEADER.tail));
      const next = this.next(head);
      if (next === tail) {
        if ((flags & BPF_EXIST) === 0) return -ERRNO.E2BIG;
        this.store(this.field(QUEUE_HEADER.tail), this.next(tail));
      }
      write(this.place(head));
      this.store(this.field(QUEUE_HEADER.head), next);
      return 0;
    });
  }

  override pushElem(value: number, flags: number, cpu: number): number {
    return this.push(cpu, flags, (at) => this.view.u8.copyWithin(at, value, value + this.spec.valueSize));
  }

  private takeElem(value: number, cpu: number, remove: boolean): number {
    const { valueSize } = this.spec;
    const error = this.take(cpu, remove, (at) => this.view.u8.copyWithin(value, at, at + valueSize));
    if (error === -ERRNO.ENOENT) this.view.u8.fill(0, value, value + valueSize);
    return error;
  }

  override popElem(value: number, cpu: number): number {
    return this.takeElem(value, cpu, true);
  }

  override peekElem(value: number, cpu: number): number {
    return this.takeElem(value, cpu, false);
  }

  lookupElem(): number {
    return 0;
  }

  updateElem(): number {
    return -ERRNO.EINVAL;
  }

  deleteElem(): number {
    return -ERRNO.EINVAL;
  }

  private takeSys(remove: boolean): BytesOrErrno {
    let value: Uint8Array | undefined;
    const error = this.take(USER_CPU, remove, (at) => {
      value = this.copy(at, this.spec.valueSize);
    });
    return value ?? error;
  }

  override sysLookup(): BytesOrErrno {
    return this.takeSys(false);
  }

  override sysLookupAndDelete(_key: Uint8Array, flags = 0): BytesOrErrno {
    return flags === 0 ? this.takeSys(true) : -ERRNO.EINVAL;
  }

  sysUpdate(_key: Uint8Array, value: Uint8Array, flags = 0): number {
    return this.push(USER_CPU, flags, (at) => this.view.u8.set(value, at));
  }

  sysDelete(): number {
    return -ERRNO.EINVAL;
  }

  sysNextKey(): BytesOrErrno {
    return -ERRNO.EINVAL;
  }

  override get size(): number {
    const head = this.load(this.field(QUEUE_HEADER.head));
    const tail = this.load(this.field(QUEUE_HEADER.tail));
    return head >= tail ? head - tail : head + this.places - tail;
  }

  /** Without keys, in the order in which pop would take them. */
  override *entries(): IterableIterator<MapEntry> {
    const values: Uint8Array[] = [];
    this.locked(this.field(QUEUE_HEADER.lock), USER_CPU, () => {
      let at = this.load(this.field(QUEUE_HEADER.tail));
      for (const head = this.load(this.field(QUEUE_HEADER.head)); at !== head; at = this.next(at)) {
        values.push(this.copy(this.place(at), this.spec.valueSize));
      }
      return 0;
    });
    if (this.spec.type === 'stack') values.reverse();
    for (const value of values) yield { key: new Uint8Array(0), values: [value] };
  }

  override clear(): void {
    this.locked(this.field(QUEUE_HEADER.lock), USER_CPU, () => {
      this.store(this.field(QUEUE_HEADER.tail), this.load(this.field(QUEUE_HEADER.head)));
      return 0;
    });
  }

  override zero(): void {
    this.view.u8.fill(0, this.place(0), this.place(this.places));
  }
}
