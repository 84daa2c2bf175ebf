/** KV blocks ↔ host memory: on the CPU a copy, done when it returns. */
import { errors, invariant } from '../../errors.js';
import type { KvTransfers, Transfer } from '../device.js';
import { describeCode } from './layout.js';
import type { Handle, Native } from './native.js';

export class HostTransfers implements KvTransfers {
  /** It is as fast as memory. */
  readonly writeRate = null;
  #started = 0;

  constructor(
    private readonly native: Native,
    /** Throws if the device is closed. */
    private readonly handle: () => Handle,
    readonly blockBytes: number,
  ) {}

  allocateHost(bytes: number): Uint8Array {
    return new Uint8Array(new SharedArrayBuffer(bytes));
  }

  read(block: number, host: Uint8Array): Transfer {
    return this.#ended(this.native.readBlock(this.handle(), block, host, host.length), block, host);
  }

  write(block: number, host: Uint8Array): Transfer {
    return this.#ended(this.native.writeBlock(this.handle(), block, host, host.length), block, host);
  }

  done(transfer: Transfer): boolean {
    invariant(transfer >= 0 && transfer < this.#started, `transfer ${transfer} was never started`);
    return true;
  }

  #ended(code: number, block: number, host: Uint8Array): Transfer {
    if (code !== 0)
      throw errors.native(code, `${describeCode(code)}: block ${block}, ${host.length} of ${this.blockBytes} bytes`);
    return this.#started++;
  }
}
