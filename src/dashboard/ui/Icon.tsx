/** Line icons, drawn here: the page loads nothing. */
const PATHS = {
  plus: 'M12 5v14M5 12h14',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  redo: 'M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13 7l4 4',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M19 5l-1.4 1.4M6.4 17.6 5 19',
  moon: 'M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z',
  left: 'M14 6l-6 6 6 6',
  right: 'M10 6l6 6-6 6',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  gear: 'M4 7h10M18 7h2M4 17h2M10 17h10M14 4v6M6 14v6',
  menu: 'M4 7h16M4 12h16M4 17h16',
  down: 'M12 4v11M7 10l5 5 5-5M5 20h14',
  up: 'M12 15V4M7 9l5-5 5 5M5 20h14',
  fork: 'M7 4v7a5 5 0 0 0 5 5h5M14 13l3 3-3 3M7 11v9',
  close: 'M6 6l12 12M18 6 6 18',
  pane: 'M4 5h16v14H4zM14 5v14',
  bolt: 'M13 3 5 14h6l-1 7 8-11h-6z',
} as const;

type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
