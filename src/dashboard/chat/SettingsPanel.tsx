/** What goes with every question. */
import { useStore } from '../ui/store.js';
import { settings } from './chats.js';

export function SettingsPanel() {
  const { system, temperature, maxTokens } = useStore(settings);
  return (
    <fieldset class="settings">
      <legend>For all conversations</legend>
      <label class="wide">
        System prompt
        <textarea
          rows={2}
          value={system}
          placeholder="none"
          onInput={(e) => settings.patch({ system: e.currentTarget.value })}
        />
      </label>
      <label>
        Temperature <output>{temperature === 0 ? 'greedy' : temperature.toFixed(1)}</output>
        <input
          type="range"
          min="0"
          max="1.5"
          step="0.1"
          value={temperature}
          onInput={(e) => settings.patch({ temperature: Number(e.currentTarget.value) })}
        />
      </label>
      <label>
        Longest answer, tokens
        <input
          type="number"
          min="1"
          max="100000"
          placeholder="what fits"
          value={maxTokens ?? ''}
          onInput={(e) => {
            const n = Number.parseInt(e.currentTarget.value, 10);
            settings.patch({ maxTokens: n >= 1 ? n : null });
          }}
        />
      </label>
    </fieldset>
  );
}
