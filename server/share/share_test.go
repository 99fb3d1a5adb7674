package share_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"edeploy/server/share"
)

func TestTry(t *testing.T) {
	for _, test := range []struct {
		all, each int
		peers     string
		want      []string // refused
	}{
		{8, 0, "aaabbccdde", []string{"a: 2 from one address", "e: 8 at once"}},
		{8, 3, "aaaabbb", []string{"a: 3 from one address"}},
		{2, 0, "aabc", []string{"a: 1 from one address", "c: 2 at once"}},
	} {
		places := share.New[rune](test.all, test.each)
		var first func()
		var got []string
		for _, peer := range test.peers {
			leave, err := places.Try(peer)
			if err != nil {
				got = append(got, string(peer)+": "+err.Error())
			}
			if first == nil {
				first = leave
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%d, %d: refused %q, want %q", test.all, test.each, got, test.want)
		}
		first()
		first() // gives one back
		if _, err := places.Try('a'); err != nil {
			t.Errorf("after a place was given back: %v", err)
		}
		if _, err := places.Try('a'); err == nil {
			t.Error("a place that is given back twice is two")
		}
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := share.New[string](3, 2)
		wait := func(peer string, patience time.Duration) (leave func(), took time.Duration, err error) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			began := time.Now()
			leave, err = places.Wait(ctx, peer)
			return leave, time.Since(began), err
		}
		leave, _, _ := wait("one", 0)
		wait("one", 0)
		_, took, err := wait("one", 10*time.Second)
		if full, ok := errors.AsType[*share.Full](err); !ok || *full != (share.Full{Most: 2, OfPeer: true}) || took != 10*time.Second {
			t.Errorf("beyond the share: %v after %v", err, took)
		}
		if _, took, err := wait("two", 10*time.Second); err != nil || took != 0 {
			t.Errorf("another peer: %v after %v", err, took)
		}
		_, took, err = wait("two", time.Second)
		if full, ok := errors.AsType[*share.Full](err); !ok || *full != (share.Full{Most: 3}) || took != time.Second {
			t.Errorf("beyond the total: %v after %v", err, took)
		}
		time.AfterFunc(3*time.Second, leave)
		if _, took, err := wait("two", 10*time.Second); err != nil || took != 3*time.Second {
			t.Errorf("a place that becomes free: %v after %v", err, took)
		}
	})
}

// Who waits longest comes first, but for those who have their share; of those
// who wait there is a bound, and none of them is forgotten.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := share.New[string](2, 1)
		a, _ := places.Try("a")
		b, _ := places.Try("b")
		got := make(chan string, 4)
		ctx, cancel := context.WithCancel(t.Context())
		for _, peer := range []string{"a", "a", "c", "d"} {
			go func() {
				leave, err := places.Wait(ctx, peer)
				if err != nil {
					return
				}
				got <- peer
				time.Sleep(time.Second)
				leave()
			}()
			synctest.Wait()
		}
		for range 2000 {
			go places.Wait(ctx, "many")
		}
		synctest.Wait()
		if _, err := places.Wait(t.Context(), "many"); err == nil {
			t.Error("more than 1024 of one peer wait")
		}
		b()
		time.Sleep(time.Millisecond)
		a()
		for _, want := range []string{"c", "a", "d", "a"} {
			if peer := <-got; peer != want {
				t.Errorf("%s gets a place, want %s", peer, want)
			}
		}
		cancel()
		time.Sleep(2 * time.Second) // the last of them leave
	})
}

func TestPeer(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.3.7:1234":             "10.0.3.7",
		"[::ffff:10.0.3.7]:1234":    "10.0.3.7",
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::",
		"[fe80::1%eth0]:80":         "fe80::",
		"pipe":                      "invalid IP",
	} {
		if got := share.Peer(address).String(); got != want {
			t.Errorf("Peer(%s) = %s, want %s", address, got, want)
		}
	}
}
