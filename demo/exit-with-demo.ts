/**
 * Loaded into every child of the demo before its program: a child whose demo is gone, killed perhaps, drains as if
 * it had been told to. So no child outlives the demo.
 */
process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
// The channel alone must not keep a program running that has ended its work.
process.channel?.unref();
