/** What is being talked to: opened by its name at the top. */
import { useEffect, useRef } from 'preact/hooks';
import { live } from '../live/connection.js';
import type { EngineAbout } from '../wire.js';
import { bytes, integer, ms, short } from './format.js';
import { Icon } from './Icon.js';
import { MemorySplit } from './MemorySplit.js';
import { useStore } from './store.js';

export function ModelCard({ open, onClose }: { open: boolean; onClose: () => void }) {
  const { about } = useStore(live);
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const d = dialog.current;
    if (open && !d?.open) d?.showModal();
    if (!open && d?.open) d.close();
  }, [open]);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes a dialog by itself
    <dialog
      ref={dialog}
      class="model-card"
      aria-labelledby="card-title"
      onClose={onClose}
      onClick={(e) => {
        if (e.target === dialog.current) onClose();
      }}
    >
      {about && (
        <>
          <header>
            <h2 id="card-title">{about.servedModelName}</h2>
            <button type="button" class="quiet" aria-label="Close" onClick={onClose}>
              <Icon name="close" />
            </button>
          </header>
          <dl>
            {rowsOf(about).map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
          <MemorySplit about={about} />
          <p class="note">{about.memory.arithmetic}</p>
        </>
      )}
    </dialog>
  );
}

function tiersOf({ hostBlocks, disk }: NonNullable<EngineAbout['tiers']>): string {
  const places = hostBlocks > 0 ? [`${integer(hostBlocks)} blocks in host memory`] : [];
  if (disk)
    places.push(`${integer(disk.blocks)} blocks (${bytes(disk.bytes)}) on disk, ${integer(disk.found)} found there`);
  return places.join(', ') || 'nothing';
}

function rowsOf(about: NonNullable<(typeof live)['value']['about']>): [string, string][] {
  const { dims: d, memory: m, device } = about;
  return [
    ['Model', `${about.modelName}, ${about.architecture}`],
    ['Parameters', `${short(about.parameters)} (${integer(about.parameters)}), ${about.quantisation}`],
    ['Shape', `${d.layers} layers of ${integer(d.dim)}, feed-forward ${integer(d.ffDim)}`],
    ['Attention', `${d.heads} heads of ${d.headDim}, ${d.kvHeads} for K and V`],
    ['Vocabulary', `${integer(d.vocab)} tokens`],
    ['Context', `${integer(about.contextLength)} tokens; sessions of up to ${integer(about.sessionLen)}`],
    ['Device', `${device.name} (${device.isa}), ${device.threads} ${device.threads === 1 ? 'thread' : 'threads'}`],
    ['KV cache', `${integer(m.kvBlocks)} blocks of ${m.blockLen} tokens, ${bytes(m.bytesPerToken)} a token`],
    ...(about.draftModel
      ? ([['Draft model', `${about.draftModel.modelName}, ${short(about.draftModel.parameters)}`]] as [
          string,
          string,
        ][])
      : []),
    ...(about.tiers ? ([['Below the device', tiersOf(about.tiers)]] as [string, string][]) : []),
    ['Tools', about.toolCalls?.known ? 'its template knows them' : 'told of in the system prompt'],
    ['Step', `up to ${integer(about.stepBudget)} tokens`],
    ['Loaded in', ms(about.loadMs)],
  ];
}
