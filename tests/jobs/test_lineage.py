"""The jobs behind a file are found through the records, and no others."""

from finished_experiments import record

from weak_to_strong.jobs.lineage import jobs_behind


def records(**jobs):
    """Records by output, from job -> (inputs, outputs)."""
    return {
        path: {"job": job, **record(job, dict.fromkeys(inputs, "0"), dict.fromkeys(outputs, "0"))}
        for job, (inputs, outputs) in jobs.items()
        for path in outputs
    }


def test_all_jobs_behind_a_file_each_once():
    made = records(
        problems=([], ["problems"]),
        rows=(["problems"], ["rows", "export"]),
        train=(["rows", "problems", "a file of the user"], ["manifest"]),
        score=(["manifest"], ["scores"]),
    )
    assert set(jobs_behind(["manifest"], made)) == {"problems", "rows", "train"}
    assert set(jobs_behind(["scores", "rows"], made)) == {"problems", "rows", "train", "score"}
    assert jobs_behind(["a file of the user"], made) == {}


def test_jobs_that_read_each_others_files_end():
    assert set(jobs_behind(["a"], records(one=(["b"], ["a"]), two=(["a"], ["b"])))) == {
        "one",
        "two",
    }
