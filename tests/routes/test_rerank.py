PATH = "/v1/rerank"


def test_documents_are_sorted_by_their_relevance(serve):
    async def scenario(worker):
        fields = {"query": "red fox", "documents": ["a blue car", "the red fox", {"text": "one fox"}]}
        data = (await worker.post(PATH, **fields)).json()
        assert [entry["index"] for entry in data["results"]] == [1, 2, 0]
        assert [entry["relevance_score"] for entry in data["results"]] == [1.0, 0.5, 0.0]
        assert "document" not in data["results"][0]
        assert data["id"].startswith("rerank-")
        (best,) = (await worker.post(PATH, top_n=1, return_documents=True, **fields)).json()["results"]
        assert best["document"] == {"text": "the red fox"}

    serve(scenario)


def test_cohere_s_newer_client_finds_it_too(serve):
    async def scenario(worker):
        answer = await worker.post("/v2/rerank", query="red fox", documents=["a blue car", "the red fox"], top_n=1)
        assert [entry["index"] for entry in answer.json()["results"]] == [1]

    serve(scenario)


def test_no_documents_are_a_400_that_names_them(serve):
    async def scenario(worker):
        answer = await worker.post(PATH, query="a", documents=[])
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "documents")

    serve(scenario)
