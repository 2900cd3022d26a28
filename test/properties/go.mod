module example.com/threepid/test/properties

go 1.26.0

replace example.com/threepid => ../../

require example.com/threepid v0.0.0

require pgregory.net/rapid v1.3.0

require (
	github.com/nyaruka/phonenumbers v1.8.1 // indirect
	golang.org/x/text v0.44.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
