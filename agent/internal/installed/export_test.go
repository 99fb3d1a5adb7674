package installed

var DeviceOf = device
