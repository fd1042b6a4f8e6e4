/** What a request is refused with, where no file of the tree says so. */

export const ENOSYS = -38;
export const ENOTTY = -25;
export const EPROTO = -71;

export class Errno extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}
