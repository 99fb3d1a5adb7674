package integration_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// question is a row of the table "Where is ...?" in README.md.
var question = regexp.MustCompile(`(?m)^\| [0-9]+\. (.*) \| (` + "`.*`" + `) \|$`)

// TestWhereIs: the answers in README.md are files and folders of the repository.
func TestWhereIs(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := question.FindAllStringSubmatch(string(text), -1)
	for _, row := range rows {
		for _, name := range strings.Split(row[2], ", ") {
			if _, err := os.Stat(filepath.Join("..", strings.Trim(name, "`"))); err != nil {
				t.Errorf("%s: %v", row[1], err)
			}
		}
	}
	if len(rows) != 20 {
		t.Errorf("%d questions have an answer in README.md, want 20", len(rows))
	}
}
