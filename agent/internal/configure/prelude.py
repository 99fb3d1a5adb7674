# Helpers of configuration scripts, for Python 2 and 3. The line above sets var.
# Scripts of the original eDeploy use these modules without importing them.
import os, re, sys, time
import subprocess as _subprocess

_root = os.environ['EDEPLOY_ROOT']

try:
    import commands
except ImportError:  # Python 3 has its functions elsewhere
    commands = sys.modules['commands'] = _subprocess


class _Absent(object):
    """A module of the original eDeploy that is not here: its first use says so."""

    def __init__(self, name, program):
        self._text = 'there is no module %s here: call the program with run(%r)' % (name, program + ' ...')

    def __getattr__(self, name):
        if name.startswith('__'):  # asked for by the statement import
            raise AttributeError(name)
        raise NameError(self._text)


for _name, _program in (('ipmi', 'ipmitool'), ('hpacucli', 'ssacli'), ('megacli', 'megacli')):
    try:
        globals()[_name] = __import__(_name)
    except ImportError:
        globals()[_name] = sys.modules[_name] = _Absent(_name, _program)


def run(cmd):
    _run(cmd, sys._getframe(1).f_lineno)


def _run(cmd, line):
    sys.stdout.flush()
    sys.stderr.write('+ %s\n' % cmd)
    sys.stderr.flush()
    with open(os.devnull) as null:
        status = _subprocess.call(['/bin/sh', '-c', cmd], stdin=null)
    if status != 0:
        sys.stderr.write('line %d: %s: exit status %d\n' % (line, cmd, status))
        sys.exit(status if 0 < status < 256 else 1)


def raid1(array, members):
    members = list(members)
    line = sys._getframe(1).f_lineno
    if len(members) < 2 or len(set(members)) < len(members):
        sys.exit('line %d: raid1: members %r: want two or more, each once' % (line, members))
    names = ' '.join(members)
    _run('wipefs -q -a %s && mdadm --create %s --run --quiet --homehost=any --level=1 --raid-devices=%d %s && wipefs -q -a %s'
         % (names, array, len(members), names, array), line)


def set_role(role, version, disk):
    with open(_root + '/vars', 'a') as f:
        f.write('ROLE=%s\nVERS=%s\nDISK=%s\nPROFILE=%s\n' % (role, version, disk, os.environ['EDEPLOY_PROFILE']))


def config(name, mode='w', basedir='/post_rsync', fmod=420, uid=0, gid=0):
    path = _root + basedir + name
    if not os.path.isdir(os.path.dirname(path)):
        os.makedirs(os.path.dirname(path))
    f = open(path, mode)
    if os.getuid() == 0:
        os.chown(path, uid, gid)
    os.chmod(path, fmod)
    return f


def wipe(policy):
    pass  # the agent has read it before the script began


def grub_options(text):
    with open(_root + '/grub_options', 'w') as f:
        f.write(text + '\n')


def inject_facts(vars, basedir='/post_rsync', prefix='hw_'):
    with config('/etc/facter/facts.d/edeploy.yaml', basedir=basedir) as f:
        f.write('---\n')
        for key in sorted(vars):
            f.write('%s%s: "%s"\n' % (prefix, key, str(vars[key]).replace('\\', '\\\\').replace('"', '\\"')))


with open(os.environ['EDEPLOY_SCRIPT']) as _f:
    _code = compile(_f.read(), os.environ['EDEPLOY_NAME'], 'exec')
exec(_code, globals())
