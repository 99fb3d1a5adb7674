package detect

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jaypipes/ghw"
)

// inventory is what ghw says about the running machine's product, board,
// firmware and case, by the names of the kernel's files in sys/class/dmi/id. A
// part that ghw cannot describe is left out.
func inventory() map[string]string {
	ctx := ghw.WithDisableTools()(context.Background())
	// A warning for each file that a machine does not have; to stderr by default.
	ctx = ghw.WithLogger(slog.New(slog.DiscardHandler))(ctx)
	all := map[string]string{}
	if p, err := ask(ctx, ghw.Product); err == nil {
		all["product_serial"], all["product_name"], all["product_version"] = p.SerialNumber, p.Name, p.Version
		all["product_uuid"], all["product_sku"], all["product_family"] = p.UUID, p.SKU, p.Family
		all["sys_vendor"] = p.Vendor
	}
	if b, err := ask(ctx, ghw.Baseboard); err == nil {
		all["board_name"], all["board_vendor"], all["board_version"], all["board_serial"] = b.Product, b.Vendor, b.Version, b.SerialNumber
	}
	if b, err := ask(ctx, ghw.BIOS); err == nil {
		all["bios_version"], all["bios_date"], all["bios_vendor"] = b.Version, b.Date, b.Vendor
	}
	if c, err := ask(ctx, ghw.Chassis); err == nil {
		all["chassis_type"], all["chassis_asset_tag"] = c.Type, c.AssetTag
	}
	for name, value := range all {
		if value == unknown {
			all[name] = ""
		}
	}
	return all
}

// unknown is what ghw says where a file is missing.
const unknown = "unknown"

// ask asks ghw one question. A panic over a file of unexpected form costs the
// answer, not the description.
func ask[T any](ctx context.Context, question func(...any) (*T, error)) (answer *T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("unexpected form: %v", p)
		}
	}()
	return question(ctx)
}
