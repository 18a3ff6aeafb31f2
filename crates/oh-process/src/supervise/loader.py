import posix
n = int(posix.read(0, 8))
s = b''
while len(s) < n: s += posix.read(0, n - len(s))
exec(compile(s, '<sent>', 'exec'))
