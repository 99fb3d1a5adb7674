package manifest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"edeploy/images/manifest"
	"edeploy/images/manifest/internal/treetest"

	"github.com/google/go-cmp/cmp"
)

func TestTextRoundTripOfHostileTree(t *testing.T) {
	root := t.TempDir()
	treetest.Hostile(t, root)
	m := treetest.Walk(t, root)
	written := treetest.Text(t, m)
	back, err := manifest.Read(strings.NewReader(written))
	treetest.Must(t, err)
	treetest.Equal(t, m, back)
	if again := treetest.Text(t, back); again != written {
		t.Error("the same manifest gave two texts")
	}
	for i, c := range []byte(written) {
		if c != '\n' && (c < ' ' || c > '~') {
			t.Fatalf("byte %d of the text is %#x: not printable ASCII", i, c)
		}
	}
}

// Any bytes but slash and NUL are a name; every name comes back.
func TestTextRoundTripOfRandomNames(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	entries := []manifest.Entry{{Path: ".", Type: manifest.Dir, ModTime: time.Unix(0, 0).UTC()}}
	seen := map[string]bool{".": true, "..": true, "": true}
	for range 2000 {
		name := make([]byte, 1+random.IntN(12))
		for i := range name {
			for name[i] == 0 || name[i] == '/' {
				name[i] = byte(random.Uint32())
			}
		}
		if seen[string(name)] {
			continue
		}
		seen[string(name)] = true
		entries = append(entries, manifest.Entry{Path: string(name), Type: manifest.Symlink, Link: string(name) + "/x",
			ModTime: time.Unix(random.Int64N(1<<40)-1<<39, random.Int64N(1e9)).UTC(), Xattrs: map[string][]byte{"user." + string(name): name}})
	}
	m, err := manifest.New(entries)
	treetest.Must(t, err)
	back, err := manifest.Read(strings.NewReader(treetest.Text(t, m)))
	treetest.Must(t, err)
	treetest.Equal(t, m, back)
}

const foreign = `#mtree
# a comment
/set type=file uid=0 gid=5 mode=0644

. type=dir mode=0755 time=1.0
    a\040b      size=3 time=1.5 unknown=keyword \
                sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
    sub type=dir mode=0700 time=-2.000000007
        l type=link link=..\\x\nz mode=0777 time=3
    ..
    zero type=char device=linux,1,5 time=4.0 uid=9
..
./sub/one size=0 time=5.0 nlink=2 inode=77 resdevice=native,8,1 sha256digest=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
./sub/two size=0 time=5.0 nlink=2 inode=77 resdevice=native,8,1 sha256digest=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
./sub/alone size=0 time=5.0 nlink=2 inode=78 sha256digest=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
/unset all
./sub/f type=fifo mode=0600 uid=1 gid=2 time=6.0
`

func TestReadForeignText(t *testing.T) {
	m, err := manifest.Read(strings.NewReader(foreign))
	treetest.Must(t, err)
	var got []string
	for _, e := range m.Entries {
		got = append(got, fmt.Sprintf("%q %s %o %d:%d %d.%d size %d link %q group %d dev %d,%d", e.Path, e.Type, e.Mode, e.UID, e.GID,
			e.ModTime.Unix(), e.ModTime.Nanosecond(), e.Size, e.Link, e.Group, e.Major, e.Minor))
	}
	want := []string{
		`"." dir 755 0:5 1.0 size 0 link "" group 0 dev 0,0`,
		`"a b" file 644 0:5 1.5 size 3 link "" group 0 dev 0,0`,
		`"sub" dir 700 0:5 -2.7 size 0 link "" group 0 dev 0,0`,
		`"sub/alone" file 644 0:5 5.0 size 0 link "" group 0 dev 0,0`,
		`"sub/f" fifo 600 1:2 6.0 size 0 link "" group 0 dev 0,0`,
		`"sub/l" link 777 0:5 3.0 size 0 link "..\\x\nz" group 0 dev 0,0`,
		`"sub/one" file 644 0:5 5.0 size 0 link "" group 1 dev 0,0`,
		`"sub/two" file 644 0:5 5.0 size 0 link "" group 1 dev 0,0`,
		`"zero" char 644 9:5 4.0 size 0 link "" group 0 dev 1,5`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	const root = "#mtree\n. type=dir mode=0755 uid=0 gid=0 time=1.0\n"
	const file = " type=file mode=0644 uid=0 gid=0 time=1.0 size=0 sha256digest=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
	for name, test := range map[string]struct{ text, want string }{
		"empty":            {"", "it describes nothing"},
		"not mtree":        {"<html>not found</html>\n", "line 1: invalid manifest: <html>not: it has no type"},
		"no root":          {"#mtree\n./a" + file, `the root directory "." is not described`},
		"dot dot":          {root + "./../etc/passwd" + file, `holds the name ".."`},
		"dot dot inside":   {root + "./a/../../b" + file, `holds the name ".."`},
		"escaped dot dot":  {root + `./\056\056/b` + file, `holds the name ".."`},
		"escaped slash":    {root + `./\056\056\057b` + file, `holds the name ".."`},
		"absolute":         {root + "/etc/passwd" + file, "is absolute"},
		"escaped absolute": {root + `\057etc` + file, "is absolute"},
		"nul":              {root + `./a\000b` + file, "NUL byte"},
		"twice":            {root + "./a" + file + "./a" + file, "a is described twice"},
		"no directory":     {root + "./a/b" + file, "a/b: its directory a is not described"},
		"below a file":     {root + "./a" + file + "./a/b" + file, "a/b: a is a file, not a directory"},
		"no type":          {root + "./a mode=0644\n", "line 3: invalid manifest: ./a: it has no type"},
		"strange type":     {root + "./a type=whiteout mode=0 uid=0 gid=0 time=1.0\n", `unknown type "whiteout"`},
		"no owner":         {root + "./a type=fifo mode=0644 gid=0 time=1.0\n", "it has no uid"},
		"no hash":          {root + "./a type=file mode=0644 uid=0 gid=0 time=1.0 size=4\n", "it has no sha256digest"},
		"bad hash":         {root + "./a type=file mode=0644 uid=0 gid=0 time=1.0 size=4 sha256digest=00\n", "want 64 hexadecimal digits"},
		"bad mode":         {root + "./a type=fifo mode=0999 uid=0 gid=0 time=1.0\n", "mode=0999: invalid syntax"},
		"mode too large":   {root + "./a type=fifo mode=0100644 uid=0 gid=0 time=1.0\n", "mode 0100644"},
		"bad time":         {root + "./a type=fifo mode=0 uid=0 gid=0 time=1.9999999999\n", "time=1.9999999999: value out of range"},
		"bad device":       {root + "./a type=char mode=0 uid=0 gid=0 time=1.0 device=0x103\n", "want native,MAJOR,MINOR"},
		"bad xattr":        {root + "./a type=fifo mode=0 uid=0 gid=0 time=1.0 xattr.user.x=???\n", "xattr.user.x: illegal base64"},
		"negative size":    {root + "./a type=file mode=0 uid=0 gid=0 time=1.0 size=-1 sha256digest=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n", "size -1"},
		"bad escape":       {root + `./\q` + file, "unknown escape"},
		"escape too large": {root + `./\777` + file, "larger than a byte"},
		"long name":        {root + "./" + strings.Repeat("n", 256) + file, "longer than 255 bytes"},
		"long path":        {root + "./" + strings.Repeat("n/", 2100) + "x" + file, "longer than 4095 bytes"},
		"links of two":     {root + "./a inode=1" + file + "./b inode=1 type=file mode=0600 uid=0 gid=0 time=1.0 size=0 sha256digest=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n", "a and b are hard links of one file, but their mode differs"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := manifest.Read(strings.NewReader(test.text))
			if !errors.Is(err, manifest.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Read = %v, want ErrInvalid that says %q", err, test.want)
			}
		})
	}
}

func TestReadIsBounded(t *testing.T) {
	line := "#mtree\n./" + strings.Repeat("x", manifest.MaxLineBytes) + "\n"
	if _, err := manifest.Read(strings.NewReader(line)); !errors.Is(err, manifest.ErrInvalid) {
		t.Errorf("Read of a long line = %v", err)
	}
	for _, set := range []string{"/set xattr.user.x=" + strings.Repeat("AAAA", 900) + "\n", "/set" + keywords(100) + "\n"} {
		if _, err := manifest.Read(strings.NewReader("#mtree\n" + set)); !errors.Is(err, manifest.ErrInvalid) || !strings.Contains(err.Error(), "/set") {
			t.Errorf("Read of a large /set = %v", err)
		}
	}
	continued := "#mtree\n" + strings.Repeat("x \\\n", manifest.MaxLineBytes/2)
	if _, err := manifest.Read(strings.NewReader(continued)); !errors.Is(err, manifest.ErrInvalid) {
		t.Errorf("Read of a line continued without end = %v", err)
	}
}

func keywords(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " k%d=1", i)
	}
	return b.String()
}

// Whatever Read accepts is a sound manifest that survives being written.
func FuzzRead(f *testing.F) {
	f.Add(foreign)
	f.Add("#mtree\n. type=dir mode=01777 uid=0 gid=0 time=1.0 xattr.user.x=AA==\n./\\134 type=link link=x uid=0 gid=0 time=2.3\n")
	f.Add("#mtree v2.0\n/set uid=0 gid=0\n. type=dir mode=0 time=0\n..\n..\n/unset uid\n")
	f.Add("#mtree\n. type=dir mode=0755 uid=0 gid=0 time=1.0 \\\n\\\n")
	f.Fuzz(func(t *testing.T, in string) {
		m, err := manifest.Read(strings.NewReader(in))
		if err != nil {
			return
		}
		for _, e := range m.Entries {
			if strings.HasPrefix(e.Path, "/") || strings.Contains("/"+e.Path+"/", "/../") || strings.Contains(e.Path, "\x00") {
				t.Fatalf("accepted path %q", e.Path)
			}
		}
		back, err := manifest.Read(strings.NewReader(treetest.Text(t, m)))
		treetest.Must(t, err)
		treetest.Equal(t, m, back)
		total, err := manifest.Measure(strings.NewReader(in))
		treetest.Must(t, err)
		if want := (manifest.Total{Entries: len(m.Entries), Bytes: m.TotalBytes()}); total != want {
			t.Errorf("Measure = %+v, want %+v", total, want)
		}
	})
}
