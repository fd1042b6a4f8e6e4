/** A set of a frame's stack slots (at most 64), as bits. */
export class SlotSet {
  /** Slots 0 to 31, and those from 32 on. */
  low: number;
  high: number;

  constructor(low = 0, high = 0) {
    this.low = low;
    this.high = high;
  }

  copy(): SlotSet {
    return new SlotSet(this.low, this.high);
  }

  get isEmpty(): boolean {
    return (this.low | this.high) === 0;
  }

  has(spi: number): boolean {
    return ((spi < 32 ? this.low : this.high) & (1 << (spi & 31))) !== 0;
  }

  add(spi: number): void {
    if (spi < 32) this.low |= 1 << spi;
    else this.high |= 1 << (spi & 31);
  }

  remove(spi: number): void {
    if (spi < 32) this.low &= ~(1 << spi);
    else this.high &= ~(1 << (spi & 31));
  }

  clear(): void {
    this.low = 0;
    this.high = 0;
  }

  and(other: SlotSet): SlotSet {
    return new SlotSet(this.low & other.low, this.high & other.high);
  }

  /** One more than the highest slot. */
  get length(): number {
    return this.high !== 0 ? 64 - Math.clz32(this.high) : 32 - Math.clz32(this.low);
  }
}
