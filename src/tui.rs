/*!
The workbench: the terminal application.

What may live here: its state and the pure `update` over messages, the registry of commands and keys,
views that draw borrowed state, themes, and the terminal itself. It draws what the rooms below hand
it, and computes nothing they could.
*/
