-- A form of a browser, for the training of `make dist`.
wrk.method = "POST"
wrk.body = "Subject=dist&Categories=training&Body=" .. string.rep("x", 200)
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
