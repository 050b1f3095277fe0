module lenient

go 1.22
