package server_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// inMemory: the documents of labs are in memory, not in directories.
var inMemory bool

// onDisk matches the tests whose subject is the directory; README.md has them,
// too.
const onDisk = "^(TestBrokenRecord|TestBrokenEdits|TestPowerCuts|TestKill|TestCampaign|TestDamagedState|TestMendWithoutSpace)$"

// TestMain runs all tests twice: with documents in directories, then in a memory
// with the limits of etcd.
func TestMain(m *testing.M) {
	code := m.Run()
	set := func(name string) string { return flag.Lookup("test." + name).Value.String() }
	if code != 0 || os.Getenv("EDEPLOY_CHILD_CONFIG") != "" || os.Getenv("EDEPLOY_BENCH") != "" || set("list") != "" || set("bench") != "" || set("fuzz") != "" {
		os.Exit(code)
	}
	skip := onDisk
	if is := set("skip"); is != "" {
		skip = is + "|" + onDisk
	}
	if err := flag.Set("test.skip", skip); err != nil {
		panic(err) // it is a flag of every test
	}
	inMemory = true
	fmt.Println("again, with documents in memory:")
	os.Exit(m.Run())
}

// TestOnDisk: README.md names the tests that run on directories alone, and they
// are there.
func TestOnDisk(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(readme), "On `store.Dir` alone")
	list, _, _ = strings.Cut(list, "\n\n")
	var named []string
	for _, name := range regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(list, -1) {
		named = append(named, name[1])
	}
	want := strings.Split(strings.TrimSuffix(strings.TrimPrefix(onDisk, "^("), ")$"), "|")
	slices.Sort(named)
	slices.Sort(want)
	if diff := cmp.Diff(want, named); diff != "" {
		t.Errorf("README.md (-want +got):\n%s", diff)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	for _, name := range want {
		if !strings.Contains(code.String(), "func "+name+"(t *testing.T)") {
			t.Errorf("there is no %s", name)
		}
	}
}
