module example.com/threepid/test/properties

go 1.26.0

replace example.com/threepid => ../../

require example.com/threepid v0.0.0

require pgregory.net/rapid v1.3.0
