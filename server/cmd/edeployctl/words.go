package main

import (
	"cmp"
	"fmt"
	"strings"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

// plural is a number with its noun: 1 error, 2 errors, 0 entries.
func plural[N int | int64](n N, noun string) string {
	stem, y := strings.CutSuffix(noun, "y")
	switch {
	case n == 1:
		return "1 " + noun
	case y:
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printRaw prints the server's JSON at a path.
func printRaw(cmd *cobra.Command, client *api.Client, path string) error {
	text, err := client.Raw(cmd.Context(), path)
	if err == nil {
		_, err = cmd.OutOrStdout().Write(text)
	}
	return err
}

// orDash stands for a text that is empty.
func orDash(text string) string { return cmp.Or(text, "-") }

// verb is the form of a verb for a number of things.
func verb[N int | int64](n N, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}
